// SPDX-License-Identifier: Apache-2.0
// One long TCP connection and one UDP socket, which send a number every few milliseconds and check every echo. It runs inside a namespace
// and prints its counters when it receives a line on stdin. It must not depend on Sluice.
import { createSocket } from 'node:dgram';
import { createConnection, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

export interface StreamCounts {
  readonly sent: number;
  readonly answered: number;
  /** Names of the servers that answered. There is one name as long as the flow keeps its backend. */
  readonly servers: string[];
  /** Longest time between two answers. */
  readonly longestGapMs: number;
  readonly error: string;
}

export interface StreamResult {
  readonly tcp: StreamCounts;
  readonly udp: StreamCounts;
}

const INTERVAL_MS = 5;
/** Maximum time to wait for the last echoes. A number without an echo by then is lost. */
const DRAIN_MS = 10_000;
const DRAIN_LOOK_MS = 10;

class Stream {
  sent = 0;
  error = '';
  readonly #unanswered = new Set<number>();
  readonly #servers = new Set<string>();
  #answered = 0;
  #last = 0;
  #longestGapMs = 0;

  next(): string {
    this.#unanswered.add((this.sent += 1));
    return String(this.sent);
  }

  /** Records an echo: "<server> <number>". */
  answer(text: string): void {
    const [server = '', number = ''] = text.trim().split(' ');
    if (!this.#unanswered.delete(Number(number))) return;
    this.#answered += 1;
    this.#servers.add(server);
    const now = performance.now();
    if (this.#last > 0) this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#last);
    this.#last = now;
  }

  get isDrained(): boolean {
    return this.#unanswered.size === 0;
  }

  counts(): StreamCounts {
    return { sent: this.sent, answered: this.#answered, servers: [...this.#servers], longestGapMs: this.#longestGapMs, error: this.error };
  }
}

const [address = '', tcpPort = '', udpPort = ''] = process.argv.slice(2);
const tcp = new Stream();
const udp = new Stream();

const connection = createConnection({ host: address, port: Number(tcpPort), noDelay: true });
connection.on('error', (error) => (tcp.error = error.message));
connection.on('close', () => (tcp.error ||= 'closed'));
createInterface({ input: connection }).on('line', (line) => tcp.answer(line));

const socket = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 });
socket.on('message', (message) => udp.answer(message.toString()));
socket.on('error', (error) => (udp.error = error.message));

connection.once('connect', () => {
  const timer = setInterval(() => {
    connection.write(`${tcp.next()}\n`);
    socket.send(udp.next(), Number(udpPort), address);
  }, INTERVAL_MS);
  process.stdout.write('{"ready":true}\n');
  createInterface({ input: process.stdin }).on('line', () => {
    clearInterval(timer);
    // Waits for the last echoes.
    const until = performance.now() + DRAIN_MS;
    setInterval(() => {
      if (!(tcp.isDrained && udp.isDrained) && performance.now() < until) return;
      process.stdout.write(`${JSON.stringify({ tcp: tcp.counts(), udp: udp.counts() } satisfies StreamResult)}\n`);
      process.exit(0);
    }, DRAIN_LOOK_MS);
  });
});
