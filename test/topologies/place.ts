// SPDX-License-Identifier: Apache-2.0
// A process at one place of a topology. It is a server for TCP 8080 and UDP 5353, and a client that tries many requests at the same
// time. Arguments: the name of the place, then the addresses of its UDP sockets. A line on stdin is a JSON object with an array of tasks
// or of flows; the answer is a JSON array of results. It must not depend on Sluice, because it is the witness.
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createConnection, createServer, isIPv6 } from 'node:net';
import { createInterface } from 'node:readline';
import { type Flow, run } from './flow.ts';

export interface Task {
  readonly kind: 'tcp' | 'udp' | 'connected';
  readonly address: string;
  readonly port: number;
  /** Number of bytes of the request. The answer contains them too. */
  readonly size: number;
  readonly timeoutMs: number;
}

export interface Result {
  /** "near sees 10.244.1.9": the server and the source address that it saw. Otherwise an error code, "timeout" or what was wrong. */
  readonly outcome: string;
  readonly ms: number;
}

export interface Order {
  readonly tasks?: readonly Task[];
  readonly flows?: readonly Flow[];
}

/** A datagram may be lost while the path MTU or a neighbour is still unknown, so it is repeated. */
const RESEND_MS = 200;

const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');
const print = (value: unknown): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

async function serve(name: string, addresses: readonly string[]): Promise<void> {
  const tcp = createServer((socket) => {
    const source = plain(socket.remoteAddress);
    socket.on('error', () => undefined);
    createInterface({ input: socket })
      .on('line', (line) => socket.write(`${name} ${source} ${line}\n`))
      .on('error', () => undefined);
  });
  await new Promise<void>((resolve) => tcp.listen({ port: 8080, host: '::', backlog: 1024 }, resolve));
  // A socket without an address would answer from the address that the route back prefers, and not from the one that was asked.
  for (const address of addresses) {
    const udp = createSocket({ type: isIPv6(address) ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 });
    udp.on('message', (message, from) => udp.send(`${name} ${from.address} ${message.toString()}`, from.port, from.address));
    udp.on('error', () => undefined);
    await new Promise<void>((resolve) => udp.bind(5353, address, resolve));
  }
}

const outcomeOf = (text: string, asked: string): string => {
  const [server = '', source = '', echo = ''] = text.trimEnd().split(' ');
  return echo === asked ? `${server} sees ${source}` : 'wrong answer';
};

function askTcp({ address, port }: Task, asked: string, finish: (outcome: string) => void): () => void {
  let text = '';
  const socket = createConnection({ host: address, port });
  socket.once('connect', () => socket.write(`${asked}\n`));
  socket.on('data', (data) => {
    text += data.toString();
    if (text.endsWith('\n')) finish(outcomeOf(text, asked));
  });
  socket.once('end', () => finish('closed'));
  socket.on('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  return () => socket.destroy();
}

function askUdp({ kind, address, port }: Task, asked: string, finish: (outcome: string) => void): () => void {
  const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
  let timer: NodeJS.Timeout | undefined;
  socket.on('message', (message, from) => {
    const isRight = from.address === address && from.port === port;
    finish(isRight ? outcomeOf(message.toString(), asked) : `answer from ${from.address} port ${from.port}`);
  });
  // A datagram that is larger than the path MTU is sent again, in fragments.
  const onError = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EMSGSIZE') finish(error.code ?? error.message);
  };
  socket.on('error', onError);
  const send = (): void => {
    const onSent = (error: Error | null): void => (error === null ? undefined : onError(error));
    if (kind === 'connected') socket.send(asked, onSent);
    else socket.send(asked, port, address, onSent);
    timer = setTimeout(send, RESEND_MS);
  };
  if (kind === 'connected') socket.connect(port, address, send);
  else send();
  return () => {
    clearTimeout(timer);
    socket.close();
  };
}

function ask(task: Task): Promise<Result> {
  const asked = randomBytes(task.size).toString('base64').slice(0, task.size);
  const began = performance.now();
  return new Promise((resolve) => {
    let isOver = false;
    const finish = (outcome: string): void => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      // finish() may be called before the function that opens the socket has returned.
      setImmediate(() => close());
      resolve({ outcome, ms: performance.now() - began });
    };
    const timer = setTimeout(() => finish('timeout'), task.timeoutMs);
    const close = (task.kind === 'tcp' ? askTcp : askUdp)(task, asked, finish);
  });
}

const [name = '', ...addresses] = process.argv.slice(2);
await serve(name, addresses);
createInterface({ input: process.stdin }).on('line', (line) => {
  const { tasks = [], flows = [] } = JSON.parse(line) as Order;
  void Promise.all([...tasks.map(ask), ...flows.map(run)]).then(print);
});
print('ready');
