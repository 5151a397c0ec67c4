// SPDX-License-Identifier: Apache-2.0
// Many megabytes through one connection, hashed at both ends: large segments (GSO, TSO) and their checksums on the way.
// `send ADDRESS PORT MEGABYTES` prints the hash of what it sent, `receive PORT` of what came, one line a connection.
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
