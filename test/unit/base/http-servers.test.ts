// SPDX-License-Identifier: Apache-2.0
// HTTP servers and clients that misuse them. The probes of the tests share the process with the server, so the tests count requests
// and connections instead of measuring time; test/netns/http.test.ts measures the daemon.
import type { RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';

import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { outcome } from '../services/health-fixture.ts';
import { pause, RawClients, shortest } from './http-clients.ts';

const clients = new RawClients();
const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await clients.closeAll();
  for (const task of undo.splice(0)) await task();
});

/** Starts a server. `mostPerTurn`: the largest number of requests that it received between two turns of the event loop. */
async function serve(handler: RequestListener, servers = new HttpServers()) {
  const seen = { requests: 0, mostPerTurn: 0 };
  let inTurn = 0;
  const server = servers.create((request, response) => {
    seen.requests += 1;
    if (inTurn === 0) setImmediate(() => (inTurn = 0));
    inTurn += 1;
    seen.mostPerTurn = Math.max(seen.mostPerTurn, inTurn);
    return handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen({ port: 0, host: '127.0.0.1' }, resolve));
  undo.push(
    () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  );
  return { servers, seen, port: (server.address() as AddressInfo).port };
}

const short: RequestListener = (_request, response) => void response.end('ok');
const from = (localAddress: string) => (port: number) => outcome({ port, localAddress });
const probe = from('127.0.0.1');

describe('connections', () => {
  test('with 1,100 idle connections of one source, every probe of this source and of others is answered', async () => {
    const { servers, port } = await serve(short);
    await clients.openMany(1100, port);
    for (let round = 0; round < 164; round += 1) {
      expect([await probe(port), await from('127.0.0.2')(port)]).toEqual([200, 200]);
    }
    expect(servers.connections.open).toBeLessThanOrEqual(65);
    expect(servers.connections.closed).toBeGreaterThan(1000);
  });

  test('with an idle connection from each of 1,100 sources, every probe is answered', async () => {
    const { servers, port } = await serve(short);
    for (let number = 1; number <= 1100; number += 1)
      await clients.open(port, `127.0.${1 + Math.floor(number / 200)}.${1 + (number % 200)}`);
    for (let round = 0; round < 20; round += 1) expect([await probe(port), await from('127.0.9.9')(port)]).toEqual([200, 200]);
    expect(servers.connections.open).toBeLessThanOrEqual(512);
  });

  test('all servers share the same limits', async () => {
    const servers = new HttpServers({ limits: { total: 10, perSource: 4 } });
    const [first, second] = [await serve(short, servers), await serve(short, servers)];
    const early = await clients.openMany(4, first.port);
    await clients.openMany(3, second.port);
    await early[2]?.until(() => early.slice(0, 3).every(({ isClosed }) => isClosed), 'the closing of three connections');
    expect([early[3]?.isClosed, await probe(first.port), await probe(second.port)]).toEqual([false, 200, 200]);
  });

  test('connections that send their headers byte by byte, or have closed one direction, do not delay the answer of a probe', async () => {
    const { port } = await serve(short);
    const [slow, half] = [await clients.openMany(1100, port), await clients.openMany(100, port, '127.0.0.2')];
    for (const { socket } of half) socket.write('GET / HT');
    for (const { socket } of half) socket.end();
    for (const byte of 'GET / HTTP/1.1\r\nHost:') {
      for (const { socket } of slow) if (!socket.destroyed) socket.write(byte);
      expect([await probe(port), await from('127.0.0.2')(port)]).toEqual([200, 200]);
    }
  });
});

describe('pipelining', () => {
  test('2,000 requests in one packet are answered in order, and at most 10 in one turn of the event loop', async () => {
    const { seen, port } = await serve((request, response) => void response.end(request.url));
    const client = (await clients.open(port)).read();
    client.socket.write(Array.from({ length: 2000 }, (_, number) => `GET /${number} HTTP/1.1\r\nHost:\r\n\r\n`).join(''));
    await client.until(() => client.responses() === 2000, 'the last response');
    expect([...client.text.matchAll(/^\/(\d+)HTTP|^\/(\d+)$/gm)].map(([, a, b]) => Number(a ?? b))).toEqual(
      Array.from({ length: 2000 }, (_, number) => number),
    );
    expect(seen.mostPerTurn).toBeLessThanOrEqual(10);
  });

  test('the requests of 32 connections with 500 requests each are answered in turn', async () => {
    const { seen, port } = await serve(short);
    const many = await clients.openMany(32, port);
    for (const client of many) client.read().socket.write(shortest.repeat(500));
    for (const client of many) await client.until(() => client.responses() === 500, 'the last response');
    // A slice has at most 10 requests. In one turn of the event loop, each connection gets one slice, or two if the queue runs again
    // before the counter is reset.
    expect(seen.mostPerTurn).toBeLessThanOrEqual(2 * 32 * 10);
  });

  test('a connection may have at most 10 requests without a response', async () => {
    let [now, most] = [0, 0];
    const { seen, port } = await serve((_request, response) => {
      now += 1;
      most = Math.max(most, now);
      setTimeout(() => {
        now -= 1;
        response.end('ok');
      }, 5);
    });
    const client = (await clients.open(port)).read();
    client.socket.write(shortest.repeat(100));
    await client.until(() => client.responses() === 100, 'the last response');
    expect([most, seen.requests]).toEqual([10, 100]);
  });

  test('the requests of a client that has disconnected are not handled', async () => {
    const started = Promise.withResolvers<void>();
    const { seen, port } = await serve((_request, response) => {
      started.resolve();
      setTimeout(() => response.end('ok'), 20);
    });
    const client = await clients.open(port);
    client.socket.write(shortest.repeat(500));
    await started.promise;
    client.socket.resetAndDestroy();
    await pause(100);
    expect(seen.requests).toBeLessThanOrEqual(10);
  });

  test('a client that does not read gets no further responses, and other clients still do', async () => {
    const body = Buffer.alloc(2 ** 20, 'x');
    const { seen, port } = await serve((request, response) => void response.end(request.url === '/big' ? body : 'ok'));
    const client = await clients.open(port);
    client.socket.pause().write('GET /big HTTP/1.1\r\nHost:\r\n\r\n'.repeat(500));
    await client.until(() => seen.requests > 0, 'the first request');
    for (let round = 0; round < 50; round += 1) expect(await probe(port)).toBe(200);
    expect(seen.requests).toBeLessThanOrEqual(50 + 30);
  });
});

describe('single requests', () => {
  test('headers of more than 8 KiB are refused with 431', async () => {
    const { seen, port } = await serve(short);
    const client = (await clients.open(port)).read();
    client.socket.write(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'y'.repeat(9000)}\r\n\r\n`);
    await client.until(() => client.isClosed, 'the end of the connection');
    expect([client.responses(431), seen.requests]).toEqual([1, 0]);
    expect(await probe(port)).toBe(200);
  });

  test('a body is received before the response and does not delay the next request', async () => {
    const { port } = await serve((request, response) => {
      let size = 0;
      request.on('data', (data: Buffer) => (size += data.length));
      request.on('end', () => response.end(`${size} bytes`));
    });
    const client = (await clients.open(port)).read();
    client.socket.write(`POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n${'z'.repeat(5000)}${shortest}`);
    await client.until(() => client.responses() === 2, 'the second response');
    expect(client.text).toMatch(/5000 bytes[^]*0 bytes/);
  });

  test('a client that closes its sending direction after the request gets the response', async () => {
    const { port } = await serve(short);
    const client = (await clients.open(port)).read();
    client.socket.end(shortest);
    await client.until(() => client.isClosed, 'the end of the connection');
    expect(client.text).toMatch(/\r\n\r\nok$/);
  });
});
