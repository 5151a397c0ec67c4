// SPDX-License-Identifier: Apache-2.0
// The ports of the daemon with the kernel's help: connections on which nothing arrives cost the process nothing, and a probe does not
// wait behind them.
import { get } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { setImmediate as nextRound } from 'node:timers/promises';
import { onTestFinished, expect, test } from 'vitest';
import { HttpServers, LISTEN_BACKLOG } from '../../daemon/base/http-servers.ts';
import { deferAccept, duplicate } from '../../daemon/kernel/host.ts';

const IDLE = 1100;

/** A port that answers every request with 200, and the connections of its servers. */
async function listen(): Promise<{ servers: HttpServers; port: number }> {
  const servers = new HttpServers({ calls: { deferAccept, duplicate } });
  const server = servers.create((_request, response) => response.end('ok'));
  await new Promise<void>((resolve) => void server.listen({ host: '127.0.0.1', port: 0, backlog: LISTEN_BACKLOG }, resolve));
  onTestFinished(() => server.close().closeAllConnections());
  return { servers, port: (server.address() as AddressInfo).port };
}

const open = (port: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    onTestFinished(() => void socket.destroy());
    socket.once('connect', () => resolve(socket)).once('error', reject);
  });

const probe = (port: number): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, agent: false }, (response) => response.resume().once('end', () => resolve(response.statusCode))).once(
      'error',
      reject,
    );
  });

test('1,100 connections without a byte are not accepted, and a probe is answered beside them', async () => {
  const { servers, port } = await listen();
  const sockets = await Promise.all(Array.from({ length: IDLE }, () => open(port)));
  expect(await probe(port)).toBe(200);
  expect(servers.connections.closed).toBe(0);
  expect(servers.connections.open).toBeLessThan(2);
  // Each of them is served as soon as it sends a request.
  const [last] = sockets.slice(-1);
  const answer = new Promise<string>((resolve) => void last?.once('data', (data) => resolve(data.toString())));
  last?.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  expect(await answer).toMatch(/^HTTP\/1\.1 200 /);
}, 60_000);

test('a connection that is closed without a byte does no harm', async () => {
  const { servers, port } = await listen();
  for (let i = 0; i < 50; i += 1) (await open(port)).destroy();
  expect(await probe(port)).toBe(200);
  expect(servers.connections.closed).toBe(0);
});

test('a port accepts several connections in one round of the event loop, and is free again when it is closed', async () => {
  const servers = new HttpServers({ calls: { deferAccept, duplicate } });
  const server = servers.create((_request, response) => response.end('ok'));
  await new Promise<void>((resolve) => void server.listen({ host: '127.0.0.1', port: 0, backlog: LISTEN_BACKLOG }, resolve));
  const { port } = server.address() as AddressInfo;
  const accepted: number[] = [];
  let round = 0;
  server.on('connection', () => accepted.push(round));
  const clients = await Promise.all(Array.from({ length: 48 }, () => open(port)));
  for (const client of clients) client.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  // All requests have arrived before the next round.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
  while (accepted.length < 48) {
    round += 1;
    await nextRound();
  }
  const perRound = [...Map.groupBy(accepted, (each) => each).values()].map((each) => each.length);
  expect(Math.max(...perRound)).toBe(16);
  server.closeAllConnections();
  await new Promise((resolve) => void server.close(resolve));
  await expect(probe(port)).rejects.toThrow('ECONNREFUSED');
});
