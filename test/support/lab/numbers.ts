// SPDX-License-Identifier: Apache-2.0
// One UDP flow of numbered datagrams, as fast as the echoes allow: no more than a window of them is under way, so that no
// socket buffer can overflow and whatever is missing was lost on the way. Ends on a line on stdin, once it has sent enough.
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

export interface NumbersResult {
  readonly sent: number;
  /** Numbers that never came back. */
  readonly lost: number;
  /** Echoes by the server that sent them. */
  readonly servers: Record<string, number>;
}

const WINDOW = 64;
const PATIENCE_MS = 10_000;

const [address = '', port = '', least = ''] = process.argv.slice(2);
const unanswered = new Set<number>();
const servers: Record<string, number> = {};
let sent = 0;
let isAsked = false;
let patience: NodeJS.Timeout | undefined;

const socket = createSocket('udp4');
const finish = (): void => {
  process.stdout.write(`${JSON.stringify({ sent, lost: unanswered.size, servers } satisfies NumbersResult)}\n`);
  process.exit(0);
};

function pump(): void {
  const isOver = isAsked && sent >= Number(least);
  if (isOver && unanswered.size === 0) finish();
  while (!isOver && unanswered.size < WINDOW) {
    unanswered.add((sent += 1));
    socket.send(String(sent), Number(port), address);
  }
}

/** What is lost closes the window, so silence is the end. */
function beQuietFor(): void {
  clearTimeout(patience);
  patience = setTimeout(finish, PATIENCE_MS);
}

socket.on('message', (message) => {
  const [server = '', number = ''] = message.toString().split(' ');
  if (!unanswered.delete(Number(number))) return;
  servers[server] = (servers[server] ?? 0) + 1;
  beQuietFor();
  pump();
});
socket.bind(0, () => {
  createInterface({ input: process.stdin }).on('line', () => {
    isAsked = true;
    pump();
  });
  process.stdout.write('{"ready":true}\n');
  beQuietFor();
  pump();
});
