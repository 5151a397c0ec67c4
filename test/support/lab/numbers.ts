// SPDX-License-Identifier: Apache-2.0
// Sends numbered datagrams in one UDP flow, as fast as the echoes arrive. The number of unanswered datagrams is limited, so that
// no socket buffer overflows. A missing datagram was therefore lost on the way. A line on stdin ends the flow when the requested
// number of datagrams has been sent.
import { createSocket } from 'node:dgram';
import { createInterface } from 'node:readline';

export interface NumbersResult {
  readonly sent: number;
  /** Number of datagrams without an echo. */
  readonly lost: number;
  /** Number of echoes by server. */
  readonly servers: Record<string, number>;
}

const WINDOW = 64;
const SILENCE_MS = 10_000;

const [address = '', port = '', least = ''] = process.argv.slice(2);
const unanswered = new Set<number>();
const servers: Record<string, number> = {};
let sent = 0;
let isStopping = false;
let silence: NodeJS.Timeout | undefined;

const socket = createSocket('udp4');
const finish = (): void => {
  process.stdout.write(`${JSON.stringify({ sent, lost: unanswered.size, servers } satisfies NumbersResult)}\n`);
  process.exit(0);
};

function pump(): void {
  const isOver = isStopping && sent >= Number(least);
  if (isOver && unanswered.size === 0) finish();
  while (!isOver && unanswered.size < WINDOW) {
    unanswered.add((sent += 1));
    socket.send(String(sent), Number(port), address);
  }
}

/** Lost datagrams keep the window full, so the flow ends when no echo arrives for SILENCE_MS. */
function restartSilence(): void {
  clearTimeout(silence);
  silence = setTimeout(finish, SILENCE_MS);
}

socket.on('message', (message) => {
  const [server = '', number = ''] = message.toString().split(' ');
  if (!unanswered.delete(Number(number))) return;
  servers[server] = (servers[server] ?? 0) + 1;
  restartSilence();
  pump();
});
socket.bind(0, () => {
  createInterface({ input: process.stdin }).on('line', () => {
    isStopping = true;
    pump();
  });
  process.stdout.write('{"ready":true}\n');
  restartSilence();
  pump();
});
