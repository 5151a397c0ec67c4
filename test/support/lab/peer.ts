// SPDX-License-Identifier: Apache-2.0
// A process in a namespace of the lab: a server that answers with its name and counts its clients, or a client that sends many requests.
// It talks to its parent in lines of JSON on stdin and stdout. It must not depend on Sluice, because it is the independent witness.
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createConnection, createServer, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';

/** The result of a client's task. */
export interface ClientResult {
  /** Number of answers by server name. */
  readonly answers: Record<string, number>;
  /** Number of failures by code or reason. */
  readonly failures: Record<string, number>;
  /** Number of answers by peer address, as getpeername() (TCP) or the source of the datagram (UDP) shows it. */
  readonly peers: Record<string, number>;
  readonly firstAnswerMs: number;
  /** With isStamped, for each request: CLOCK_MONOTONIC in ms before connect() and after the answer, and the server or the failure. */
  readonly stamps: [number, number, string][];
}

export interface ClientTask {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly count: number;
  readonly parallel?: number;
  /** For UDP: the socket calls connect(), instead of sending to an address. */
  readonly isConnected?: boolean;
  readonly timeoutMs?: number;
  readonly isStamped?: boolean;
  /** Stop after this time, even before `count` requests. */
  readonly forMs?: number;
  /** Local port of the first request. Each further request uses the next port. */
  readonly localPort?: number;
  /** Size of a request in bytes. The answer must contain the same bytes. Default: five. */
  readonly size?: number;
}

/** Counters of a server: connections and datagrams, and both by client address. */
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
    // Every line is answered with the name of the server and the line. The reader emits the errors of its socket again: a client may reset.
    createInterface({ input: socket })
      .on('line', (line) => socket.write(`${name} ${line}\n`))
      .on('error', () => undefined);
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

/** Text of a request. It is random, so that the answer to another request does not match. */
const question = (size: number | undefined): string => (size === undefined ? 'hello' : randomBytes(size).toString('base64').slice(0, size));
const isAnswer = (text: string, asked: string): boolean => text.slice(text.indexOf(' ') + 1).trimEnd() === asked;

interface Answer {
  readonly text: string;
  readonly peer: string;
}

function askTcp({ address, port, localPort, size, timeoutMs = 5000 }: ClientTask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = question(size);
    let text = '';
    const socket = createConnection({ host: address, port, ...(localPort === undefined ? {} : { localPort }) });
    socket.setTimeout(timeoutMs, () => socket.destroy(new Error('timeout')));
    socket.once('connect', () => socket.write(`${asked}\n`));
    socket.on('data', (data) => {
      text += data.toString();
      if (!text.endsWith('\n')) return;
      if (!isAnswer(text, asked)) reject(new Error('wrong answer'));
      resolve({ text, peer: `${plain(socket.remoteAddress)}:${socket.remotePort}` });
      socket.destroy();
    });
    socket.once('error', reject);
  });
}

function askUdp({ address, port, localPort = 0, size, isConnected = false, timeoutMs = 5000 }: ClientTask): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = question(size);
    const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
    const finish = (settle: () => void): void => {
      clearTimeout(timer);
      socket.close();
      settle();
    };
    const timer = setTimeout(() => finish(() => reject(new Error('timeout'))), timeoutMs);
    socket.once('message', (message, from) => {
      const text = message.toString();
      if (!isAnswer(text, asked)) return finish(() => reject(new Error('wrong answer')));
      return finish(() => resolve({ text, peer: `${from.address}:${from.port}` }));
    });
    socket.once('error', (error) => finish(() => reject(error)));
    socket.bind(localPort, () => {
      if (isConnected) socket.connect(port, address, () => socket.send(asked));
      else socket.send(asked, port, address);
    });
  });
}

async function ask(task: ClientTask): Promise<ClientResult> {
  const result: ClientResult & { firstAnswerMs: number } = { answers: {}, failures: {}, peers: {}, firstAnswerMs: -1, stamps: [] };
  const began = performance.now();
  let left = task.count;
  let { localPort } = task;
  const next = (): ClientTask => (localPort === undefined ? task : { ...task, localPort: localPort++ });
  const worker = async (): Promise<void> => {
    while (left-- > 0 && performance.now() - began < (task.forMs ?? Infinity)) {
      const before = monotonic();
      try {
        const { text, peer } = await (task.protocol === 'tcp' ? askTcp(next()) : askUdp(next()));
        if (result.firstAnswerMs < 0) result.firstAnswerMs = performance.now() - began;
        const server = text.split(' ')[0] ?? '';
        if (task.isStamped === true) result.stamps.push([before, monotonic(), server]);
        bump(result.answers, server);
        bump(result.peers, peer);
      } catch (error) {
        const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
        if (task.isStamped === true) result.stamps.push([before, monotonic(), why]);
        bump(result.failures, why);
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
