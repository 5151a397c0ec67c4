// SPDX-License-Identifier: Apache-2.0
// A peer that runs inside a namespace of the lab: a server that says its name and counts, or a client that asks many times.
// Talks to its parent in lines of JSON on stdin and stdout. It knows nothing of Sluice: the witness must not be our own.
import { createSocket } from 'node:dgram';
import { createConnection, createServer, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

/** What a client's run came to. */
export interface ClientResult {
  /** Answers by server name. */
  readonly answers: Record<string, number>;
  /** Failures by code or reason. */
  readonly failures: Record<string, number>;
  /** Who the clients seemed to talk to, by getpeername() (TCP) or the datagram's source (UDP). */
  readonly peers: Record<string, number>;
  readonly firstAnswerMs: number;
  /** When asked for: monotonic ms before connect() and after the answer, and who answered; the same clock in every process. */
  readonly stamps: [number, number, string][];
}

export interface ClientTask {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly count: number;
  readonly parallel?: number;
  /** UDP: connect() the socket instead of sending to an address. */
  readonly isConnected?: boolean;
  readonly timeoutMs?: number;
  readonly isStamped?: boolean;
  /** Stop asking after this time, whatever the count. */
  readonly forMs?: number;
  /** Bind to this port first. */
  readonly localPort?: number;
}

/** What a server has counted: connections or datagrams, and by client address. */
export interface ServerCounts {
  readonly tcp: number;
  readonly udp: number;
  readonly clients: Record<string, number>;
}

const bump = (counts: Record<string, number>, key: string): void => void (counts[key] = (counts[key] ?? 0) + 1);
const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
/** CLOCK_MONOTONIC in ms. */
const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;
const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');

async function serve(name: string, ports: { tcp: number; udp: number }): Promise<void> {
  const counts = { tcp: 0, udp: 0, clients: {} as Record<string, number> };
  const tcp = createServer((socket) => {
    counts.tcp += 1;
    bump(counts.clients, plain(socket.remoteAddress));
    socket.on('error', () => undefined);
    // Every line is answered by the name: a stream's every line must come back.
    createInterface({ input: socket }).on('line', (line) => socket.write(`${name} ${line}\n`));
  });
  await new Promise<void>((resolve) => tcp.listen({ port: ports.tcp, host: '::', backlog: 4096 }, resolve));
  for (const family of ['udp4', 'udp6'] as const) {
    const udp = createSocket({ type: family, ipv6Only: family === 'udp6', recvBufferSize: 1 << 20 });
    udp.on('message', (message, from) => {
      counts.udp += 1;
      bump(counts.clients, from.address);
      udp.send(`${name} ${message.toString()}`, from.port, from.address);
    });
    await new Promise<void>((resolve) => udp.bind(ports.udp, () => resolve()));
  }
  createInterface({ input: process.stdin }).on('line', () => print(counts));
  print({ ready: name });
}

interface Answer {
  readonly text: string;
  readonly peer: string;
}

function askTcp({ address, port, localPort, timeoutMs = 5000 }: ClientTask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: address, port, ...(localPort === undefined ? {} : { localPort }) });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error('timeout')));
    socket.once('connect', () => socket.write('hello\n'));
    socket.once('data', (data) => {
      resolve({ text: data.toString(), peer: `${plain(socket.remoteAddress)}:${socket.remotePort}` });
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

function askUdp({ address, port, localPort, isConnected = false, timeoutMs = 5000 }: ClientTask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.close();
      settle();
    };
    const timer = setTimeout(() => finish(() => reject(new Error('timeout'))), timeoutMs);
    socket.once('message', (message, from) => finish(() => resolve({ text: message.toString(), peer: `${from.address}:${from.port}` })));
    socket.once('error', (error) => finish(() => reject(error)));
    const go = (): void => (isConnected ? socket.connect(port, address, () => socket.send('hello')) : socket.send('hello', port, address));
    if (localPort === undefined) go();
    else socket.bind(localPort, go);
  });
}

async function ask(task: ClientTask): Promise<ClientResult> {
  const result: ClientResult & { firstAnswerMs: number } = { answers: {}, failures: {}, peers: {}, firstAnswerMs: -1, stamps: [] };
  const began = performance.now();
  let left = task.count;
  const worker = async (): Promise<void> => {
    while (left-- > 0 && performance.now() - began < (task.forMs ?? Infinity)) {
      const before = monotonic();
      try {
        const { text, peer } = await (task.protocol === 'tcp' ? askTcp(task) : askUdp(task));
        if (result.firstAnswerMs < 0) result.firstAnswerMs = performance.now() - began;
        const server = text.split(' ')[0] ?? '';
        if (task.isStamped === true) result.stamps.push([before, monotonic(), server]);
        bump(result.answers, server);
        bump(result.peers, peer);
      } catch (error) {
        bump(result.failures, (error as NodeJS.ErrnoException).code ?? (error as Error).message);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(task.parallel ?? 16, task.count) }, worker));
  return result;
}

const [role, ...args] = process.argv.slice(2);
if (role === 'serve') {
  await serve(args[0] ?? '', { tcp: Number(args[1]), udp: Number(args[2]) });
} else if (role === 'ask') {
  createInterface({ input: process.stdin }).on('line', (line) => void ask(JSON.parse(line) as ClientTask).then(print));
  print({ ready: true });
}
