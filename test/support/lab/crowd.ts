// SPDX-License-Identifier: Apache-2.0
// Clients that misuse a port: `crowd.ts MODE ADDRESS PORT COUNT [SOURCES]` opens COUNT connections, from SOURCES addresses of the
// loopback if given, and prints "open". It replaces each connection that the server closes, so the number stays the same. Modes: idle
// (no request), slow (headers byte by byte), half (a part of a request, then the sending direction is closed), pipeline (requests
// without end; responses are read), unread (2,000 requests for /metrics; responses are not read). It ends when its standard input ends.
// Started by netns tests.
import { connect, type Socket } from 'node:net';

const [mode = '', address = '', port = '', count = '', sources] = process.argv.slice(2);
const REQUEST = 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n';
const BURST = 2000;
const REOPEN_MS = 1000;
const BYTE_MS = 500;

let opened = 0;
let isAnnounced = false;

const roles: Readonly<Record<string, (socket: Socket) => void>> = {
  idle: (socket) => void socket.resume(),
  slow: (socket) => {
    const start = `${REQUEST.slice(0, -2)}X-Filler: `;
    let sent = 0;
    const timer = setInterval(() => socket.write(start.charAt(sent++) || 'y'), BYTE_MS);
    socket.resume().once('close', () => clearInterval(timer));
  },
  half: (socket) => void socket.resume().end('GET / HT'),
  pipeline: (socket) => {
    const more = (): void => void socket.write(REQUEST.repeat(BURST), () => setImmediate(more));
    socket.resume();
    more();
  },
  unread: (socket) => void socket.pause().write(REQUEST.repeat(BURST)),
};
const role = roles[mode];
if (role === undefined) throw new Error(`unknown mode ${mode}`);

function open(number: number): void {
  const localAddress = sources === undefined ? undefined : `127.1.${Math.floor((number % Number(sources)) / 200)}.${1 + (number % 200)}`;
  const socket = connect({ host: address, port: Number(port), localAddress, allowHalfOpen: mode === 'half' });
  socket.once('connect', () => {
    opened += 1;
    role?.(socket);
    if (opened >= Number(count) && !isAnnounced) {
      isAnnounced = true;
      process.stdout.write('open\n');
    }
  });
  socket.on('error', () => undefined);
  socket.once('close', () => setTimeout(() => open(number), REOPEN_MS));
}

for (let number = 0; number < Number(count); number += 1) open(number);
process.stdin.on('end', () => process.exit()).resume();
