// SPDX-License-Identifier: Apache-2.0
// Keeps many TCP connections open: `hold-many.ts ADDRESS PORT COUNT` opens COUNT connections, one after the other, and prints "ready". For
// each line on stdin it sends a number on every connection, and prints for each one, as JSON, the name of the server that answered,
// "timeout", "closed" or an error code. The line "close" closes all. It must not depend on Sluice.
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const TIMEOUT_MS = 5000;
const [address = '', port = '', count = ''] = process.argv.slice(2);

class Connection {
  readonly #socket: Socket;
  #asked = 0;
  #end = '';
  #onResult: ((result: string) => void) | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('error', (error: NodeJS.ErrnoException) => this.#finish((this.#end = error.code ?? error.message)));
    socket.on('close', () => this.#finish((this.#end ||= 'closed')));
    createInterface({ input: socket })
      .on('line', (text) => {
        const [server = '', number] = text.split(' ');
        if (Number(number) === this.#asked) this.#finish(server);
      })
      .on('error', () => undefined);
  }

  static async open(): Promise<Connection> {
    const socket = createConnection({ host: address, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new Connection(socket);
  }

  ask(): Promise<string> {
    if (this.#end !== '') return Promise.resolve(this.#end);
    this.#asked += 1;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#finish('timeout'), TIMEOUT_MS);
      this.#onResult = (result) => {
        clearTimeout(timer);
        resolve(result);
      };
      this.#socket.write(`${this.#asked}\n`);
    });
  }

  async close(): Promise<string> {
    this.#socket.end();
    if (this.#end === '') await once(this.#socket, 'close');
    return this.#end;
  }

  #finish(result: string): void {
    this.#onResult?.(result);
    this.#onResult = undefined;
  }
}

const connections: Connection[] = [];
for (let number = 0; number < Number(count); number += 1) connections.push(await Connection.open());
createInterface({ input: process.stdin }).on('line', (line) => {
  const all = connections.map((connection) => (line === 'close' ? connection.close() : connection.ask()));
  void Promise.all(all).then((results) => process.stdout.write(`${JSON.stringify(results)}\n`));
});
process.stdout.write('ready\n');
