// SPDX-License-Identifier: Apache-2.0
// A TCP proxy that can swallow whatever comes, as a network does whose cable was pulled: nobody is told.
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Proxy {
  readonly port: number;
  /** From now on no byte passes, of connections that there are and of new ones. */
  swallow(): void;
  /** Bytes of new connections pass again; what was swallowed is lost. */
  pass(): void;
  /** Bytes pass; that an end has been reached does not. */
  holdEnds(): void;
  /** Cuts every connection. */
  reset(): void;
  close(): Promise<void>;
}

export async function startProxy(port: number): Promise<Proxy> {
  let isSwallowing = false;
  let isHoldingEnds = false;
  const sockets = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    let isLost = isSwallowing;
    for (const [from, to] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => {
        isLost ||= isSwallowing;
        if (!isLost) to.write(bytes);
      });
      from.on('end', () => {
        isLost ||= isSwallowing || isHoldingEnds;
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
    swallow: () => void (isSwallowing = true),
    pass: () => void (isSwallowing = false),
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
