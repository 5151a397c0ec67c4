// SPDX-License-Identifier: Apache-2.0
// One socket that is kept: `tcp`, `udp` (sendto) or `connected` (a connected UDP socket), ADDRESS PORT LOCAL-PORT. Every line on stdin
// is a question; prints who answered, or "timeout", or the code of an error. It knows nothing of Sluice.
import { createSocket } from 'node:dgram';
import { createConnection, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

const PATIENCE_MS = 5000;
const [kind = '', address = '', ...ports] = process.argv.slice(2);
const [port = 0, localPort = 0] = ports.map(Number);

let asked = 0;
let heard: ((who: string) => void) | undefined;
const hear = (who: string): void => heard?.(who);
const hearAnswer = (text: string): void => {
  const [server = '', number] = text.trim().split(' ');
  if (Number(number) === asked) hear(server);
};
const hearError = (error: NodeJS.ErrnoException): void => hear(error.code ?? error.message);

let send: (text: string) => void;
if (kind === 'tcp') {
  const socket = createConnection({ host: address, port, localPort, noDelay: true });
  socket.on('error', hearError);
  socket.on('close', () => hear('closed'));
  createInterface({ input: socket }).on('line', hearAnswer);
  send = (text) => socket.write(`${text}\n`);
} else {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  socket.on('message', (message) => hearAnswer(message.toString()));
  socket.on('error', hearError);
  const isConnected = kind === 'connected';
  await new Promise<void>((resolve) => socket.bind(localPort, resolve));
  if (isConnected) await new Promise<void>((resolve) => socket.connect(port, address, resolve));
  send = (text) => (isConnected ? socket.send(text) : socket.send(text, port, address));
}

createInterface({ input: process.stdin }).on('line', () => {
  asked += 1;
  const timer = setTimeout(() => hear('timeout'), PATIENCE_MS);
  heard = (who) => {
    heard = undefined;
    clearTimeout(timer);
    process.stdout.write(`${who}\n`);
  };
  send(String(asked));
});
process.stdout.write('ready\n');
