// SPDX-License-Identifier: Apache-2.0
// Keeps one socket open. Arguments: `tcp`, `udp` (sendto) or `connected` (a connected UDP socket), then ADDRESS PORT LOCAL-PORT.
// It sends a question for each line on stdin and prints the name of the server that answered, or "timeout", or an error code. It
// must not depend on Sluice.
import { createSocket } from 'node:dgram';
import { createConnection, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

const TIMEOUT_MS = 5000;
const [kind = '', address = '', ...ports] = process.argv.slice(2);
const [port = 0, localPort = 0] = ports.map(Number);

let asked = 0;
let onResult: ((result: string) => void) | undefined;
const finish = (result: string): void => onResult?.(result);
const onAnswer = (text: string): void => {
  const [server = '', number] = text.trim().split(' ');
  if (Number(number) === asked) finish(server);
};
const onError = (error: NodeJS.ErrnoException): void => finish(error.code ?? error.message);

let send: (text: string) => void;
if (kind === 'tcp') {
  const socket = createConnection({ host: address, port, localPort, noDelay: true });
  socket.on('error', onError);
  socket.on('close', () => finish('closed'));
  createInterface({ input: socket }).on('line', onAnswer);
  send = (text) => socket.write(`${text}\n`);
} else {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  socket.on('message', (message) => onAnswer(message.toString()));
  socket.on('error', onError);
  const isConnected = kind === 'connected';
  await new Promise<void>((resolve) => socket.bind(localPort, resolve));
  if (isConnected) await new Promise<void>((resolve) => socket.connect(port, address, resolve));
  send = (text) => (isConnected ? socket.send(text) : socket.send(text, port, address));
}

createInterface({ input: process.stdin }).on('line', () => {
  asked += 1;
  const timer = setTimeout(() => finish('timeout'), TIMEOUT_MS);
  onResult = (result) => {
    onResult = undefined;
    clearTimeout(timer);
    process.stdout.write(`${result}\n`);
  };
  send(String(asked));
});
process.stdout.write('ready\n');
