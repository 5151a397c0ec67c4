// SPDX-License-Identifier: Apache-2.0
// A connection and a UDP flow that pass for some time, with a number every few milliseconds in each. place.ts runs it. It must not depend
// on Sluice.
import { createSocket } from 'node:dgram';
import { createConnection, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

export interface Flow {
  readonly address: string;
  readonly tcp: number;
  readonly udp: number;
  readonly forMs: number;
}

export interface FlowResult {
  /** Longest time in ms without an answer to a datagram, while datagrams were sent. */
  readonly silentMs: number;
  /** "ok" if every number on the connection was answered, otherwise what happened to it. */
  readonly connection: string;
}

const INTERVAL_MS = 5;
/** Time for the last answers. */
const DRAIN_MS = 500;

const numberOf = (text: string): number => Number(text.trimEnd().split(' ').at(-1));

export async function run({ address, tcp, udp, forMs }: Flow): Promise<FlowResult> {
  let count = 0;
  let error = '';
  const unanswered = new Set<number>();
  let silentMs = 0;
  let last = performance.now();
  const mark = (): void => {
    silentMs = Math.max(silentMs, performance.now() - last);
    last = performance.now();
  };
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  socket.on('message', mark);
  socket.on('error', () => undefined);
  const connection = createConnection({ host: address, port: tcp, noDelay: true });
  connection.on('error', (cause) => (error = cause.message));
  connection.on('close', () => (error ||= 'closed'));
  // The reader emits the errors of the connection again.
  createInterface({ input: connection })
    .on('line', (line) => unanswered.delete(numberOf(line)))
    .on('error', () => undefined);
  const timer = setInterval(() => {
    count += 1;
    socket.send(String(count), udp, address);
    if (connection.readyState !== 'open') return;
    unanswered.add(count);
    connection.write(`${count}\n`);
  }, INTERVAL_MS);
  await new Promise((resolve) => setTimeout(resolve, forMs));
  clearInterval(timer);
  mark();
  socket.off('message', mark);
  await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
  const state = connection.connecting ? 'no connection' : unanswered.size > 0 ? 'stalled' : 'ok';
  const result = { silentMs: Math.round(silentMs), connection: error === '' ? state : error };
  connection.destroy();
  socket.close();
  return result;
}
