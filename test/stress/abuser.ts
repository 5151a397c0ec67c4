// SPDX-License-Identifier: Apache-2.0
// One abusive client of the daemon, as a process of the abuse test. It does one thing without end, ignores every answer and every
// error, and prints "ready" when it has begun. The first argument is the name of the abuse, the others are its arguments (see
// `abuses`). abuse.ts starts it in a network namespace of a lab, and it must never reach anything outside of that lab.
import { connect as connectHttp2 } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { loadSluice } from '../../proto/load.ts';
import { credentials } from '@grpc/grpc-js';

/** Number of calls on a gRPC connection whose responses are not read, and the time after which a new connection is opened. */
const UNREAD_CALLS = 500;
const UNREAD_MS = 3000;
const EXPLAIN_PACKETS = 128;
const PIPELINED_REQUESTS = 2000;
const IDLE_CONNECTIONS = 1100;
const SLOW_CONNECTIONS = 50;
const SLOW_BYTE_MS = 100;

/** Opens a connection whose errors are ignored. Resolves when it is open or has failed. */
function open(host: string, port: number): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => resolve(socket));
    socket.on('error', () => resolve(socket));
  });
}

async function unreadCalls(path: string): Promise<never> {
  for (;;) {
    const session = connectHttp2('http://localhost', { createConnection: () => connect(path) });
    session.on('error', () => undefined);
    for (let n = 0; n < UNREAD_CALLS && !session.destroyed; n += 1) {
      const headers = { ':method': 'POST', ':path': '/sluice.v1.Sluice/ListServices', 'content-type': 'application/grpc', te: 'trailers' };
      const stream = session.request(headers);
      stream.on('error', () => undefined);
      // The bytes of an empty message: no compression, length 0. The stream is never read.
      stream.end(Buffer.alloc(5));
    }
    await pause(UNREAD_MS);
    session.destroy();
  }
}

async function explainCalls(path: string, address: string): Promise<never> {
  const { Sluice } = loadSluice();
  const client = new Sluice(`unix:${path}`, credentials.createInsecure());
  const packet = { protocol: 'TCP', sourceIp: '10.244.1.9', destIp: address, destPort: 80 };
  const packets = Array.from({ length: EXPLAIN_PACKETS }, (_, n) => ({ ...packet, sourcePort: 1024 + n }));
  for (;;) {
    await new Promise<void>((resolve) => client.explain({ packets }, { deadline: Date.now() + UNREAD_MS }, () => resolve()));
    await pause(100);
  }
}

async function pipelinedRequests(host: string, port: string): Promise<never> {
  for (;;) {
    const socket = await open(host, Number(port));
    socket.write(`GET /metrics HTTP/1.1\r\nHost: ${host}\r\n\r\n`.repeat(PIPELINED_REQUESTS));
    await pause(UNREAD_MS);
    socket.destroy();
  }
}

/** Keeps 1,100 connections open on which it sends nothing. Opens again what the server closes. */
async function idleConnections(host: string, port: string): Promise<never> {
  const sockets = new Set<Socket>();
  for (;;) {
    for (let n = sockets.size; n < IDLE_CONNECTIONS; n += 1) {
      const socket = await open(host, Number(port));
      sockets.add(socket);
      socket.resume().once('close', () => sockets.delete(socket));
    }
    await pause(100);
  }
}

async function slowConnection(host: string, port: string): Promise<never> {
  for (;;) {
    const socket = await open(host, Number(port));
    for (const byte of `GET /healthz HTTP/1.1\r\nX-Padding: ${'x'.repeat(1000)}`) {
      if (socket.destroyed) break;
      socket.write(byte);
      await pause(SLOW_BYTE_MS);
    }
    socket.destroy();
  }
}

const slowConnections = (host: string, port: string): Promise<unknown> =>
  Promise.all(Array.from({ length: SLOW_CONNECTIONS }, () => slowConnection(host, port)));

const abuses = { unreadCalls, explainCalls, pipelinedRequests, idleConnections, slowConnections };
export type Abuse = keyof typeof abuses;

const [name = '', first = '', second = ''] = process.argv.slice(2);
if (!(name in abuses)) throw new Error(`there is no abuse with the name ${name}`);
process.stdout.write('ready\n');
await abuses[name as Abuse](first, second);
