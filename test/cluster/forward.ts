// SPDX-License-Identifier: Apache-2.0
// Forwards TCP connections between two network namespaces through a Unix socket. Arguments: FROM TO, each a port or a path. One
// process runs in each namespace. It must not change the bytes. control-plane.ts starts it.
import { createConnection, createServer } from 'node:net';

const [from = '', to = ''] = process.argv.slice(2);
const place = (text: string): { port: number } | { path: string } => (/^\d+$/.test(text) ? { port: Number(text) } : { path: text });

const server = createServer((incoming) => {
  const outgoing = createConnection(place(to));
  for (const socket of [incoming, outgoing]) socket.on('error', () => [incoming, outgoing].forEach((each) => each.destroy()));
  incoming.pipe(outgoing).pipe(incoming);
});
server.listen(place(from), () => process.stdout.write('ready\n'));
