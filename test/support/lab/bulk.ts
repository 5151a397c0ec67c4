// SPDX-License-Identifier: Apache-2.0
// Sends many megabytes through one connection and hashes them at both ends, to test large segments (GSO, TSO) and their checksums.
// `send ADDRESS PORT MEGABYTES` prints the hash of what it sent. `receive PORT` prints the hash of what it received, one line for each
// connection. Started by netns tests in a namespace of the lab.
import { createHash, randomBytes } from 'node:crypto';
import { createConnection, createServer } from 'node:net';
import { pipeline } from 'node:stream/promises';

const [role, ...args] = process.argv.slice(2);
const print = (text: string): void => void process.stdout.write(`${text}\n`);

if (role === 'receive') {
  const server = createServer((socket) => {
    const hash = createHash('sha256');
    socket.on('data', (chunk) => hash.update(chunk));
    socket.once('end', () => print(hash.digest('hex')));
  });
  server.listen(Number(args[0]), '::', () => print('listening'));
} else {
  const chunk = randomBytes(1 << 20);
  const hash = createHash('sha256');
  const socket = createConnection({ host: args[0] ?? '', port: Number(args[1]) });
  await pipeline(function* () {
    for (let i = 0; i < Number(args[2]); i += 1) {
      hash.update(chunk);
      yield chunk;
    }
  }, socket);
  print(hash.digest('hex'));
}
