// SPDX-License-Identifier: Apache-2.0
// Clients that do not behave as probes do: they stay idle, send slowly, pipeline requests, or do not read. Each is a raw TCP
// connection on the loopback. A test must call close() for each client that it opened, or closeAll().
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export class RawClient {
  readonly socket: Socket;
  /** Everything that the server sent, as long as the client reads. */
  text = '';
  isClosed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('error', () => undefined);
    socket.on('close', () => (this.isClosed = true));
  }

  read(): this {
    this.socket.on('data', (data: Buffer) => (this.text += data.toString('latin1')));
    return this;
  }

  /** Number of responses with this status that were received. */
  responses(status = 200): number {
    return this.text.split(`HTTP/1.1 ${status} `).length - 1;
  }

  /** Resolves when the condition is true. Rejects after 20 s. */
  async until(isTrue: () => boolean, what: string): Promise<void> {
    for (const end = Date.now() + 20_000; !isTrue();) {
      if (Date.now() > end) throw new Error(`${what} did not happen; received: ${this.text.slice(-200)}`);
      await pause(5);
    }
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The shortest request of HTTP/1.1 that a server accepts is 25 bytes long. */
export const shortest = 'GET / HTTP/1.1\r\nHost:\r\n\r\n';

export class RawClients {
  readonly #clients: RawClient[] = [];

  /** Opens a connection from this local address. */
  async open(port: number, localAddress = '127.0.0.1'): Promise<RawClient> {
    const socket = connect({ port, host: '127.0.0.1', localAddress });
    const client = new RawClient(socket);
    this.#clients.push(client);
    await once(socket, 'connect');
    return client;
  }

  async openMany(count: number, port: number, localAddress?: string): Promise<RawClient[]> {
    const opened: RawClient[] = [];
    for (let left = count; left > 0; left -= 1) opened.push(await this.open(port, localAddress));
    return opened;
  }

  async closeAll(): Promise<void> {
    await Promise.all(
      this.#clients.splice(0).map(async ({ socket }) => {
        if (socket.closed) return;
        socket.destroy();
        await once(socket, 'close');
      }),
    );
  }
}
