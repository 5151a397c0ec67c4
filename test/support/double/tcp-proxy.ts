// SPDX-License-Identifier: Apache-2.0
// A TCP proxy that can drop all data without closing a connection, as a network with a broken cable does.
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** Drops all further data, of present and new connections. */
  drop(): void;
  /** Forwards the data of new connections again. Data that was dropped is lost. */
  forward(): void;
  /** Forwards data, but not the end of a direction (FIN). */
  holdEnds(): void;
  /** Resets every connection. */
  reset(): void;
  close(): Promise<void>;
}

export async function startProxy(port: number): Promise<Proxy> {
  let isDropping = false;
  let isHoldingEnds = false;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let isLost = isDropping;
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => {
        isLost ||= isDropping;
        if (!isLost) to.write(bytes);
      });
      from.on('end', () => {
        isLost ||= isDropping || isHoldingEnds;
        if (!isLost) to.end();
      });
      from.on('error', () => undefined);
      from.on('close', () => {
        sockets.delete(from);
        if (!isLost) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const reset = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    drop: () => void (isDropping = true),
    forward: () => void (isDropping = false),
    holdEnds: () => void (isHoldingEnds = true),
    reset,
    close: () => {
      for (const socket of sockets) socket.destroy();
      return new Promise((resolve) => {
        server.close(() => resolve());
      });
    },
  };
}
