// SPDX-License-Identifier: Apache-2.0
// The connection to the API server ends: without a word, by a reset, by GOAWAY, by us. What was under way is told so, and the
// next request has a new connection.
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ApiResponse, Unreachable } from '../../../daemon/source/kubernetes/api-client.ts';
import { connectTo, listen, proxyTo, Reading, textOf, until, watchServices } from './connection-fixture.ts';
import { service } from './kubernetes-fixture.ts';

/** A server in a thread of its own, since it must answer while ours stands still. */
const answering = `
  const { parentPort, workerData } = require('node:worker_threads');
  const server = require('node:http2').createServer();
  server.on('stream', (stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
  });
  server.on('session', (session) => session.on('ping', () => setImmediate(() => {
    Atomics.add(workerData, 0, 1);
    Atomics.notify(workerData, 0);
  })));
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

describe('a connection that ends', () => {
  test('without a word: pings find out in 6 s, every stream ends, and the next request connects anew', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get, clock } = connectTo([url]);
    const watches = [new Reading(await get(watchServices)), new Reading(await get(watchServices))];
    // Pings are answered for a while.
    for (let round = 0; round < 5; round += 1) await clock.ping(2);
    proxy.swallow();
    await clock.ping(1);
    api.put(service('web'));
    await nextTurn();
    expect(watches.map(({ end }) => end)).toEqual([undefined, undefined]);
    clock.advance(3000);
    await until(() => watches.every(({ end }) => end !== undefined));
    const message = `${url.origin} cut the connection: ${url.origin} has not answered a ping for 3 s`;
    expect(watches.map(({ end }) => end)).toEqual([new Unreachable(message), new Unreachable(message)]);
    expect(watches.map(({ text }) => text)).toEqual(['', '']);
    expect(clock.nextTimer).toBeUndefined();
    proxy.pass();
    expect((await get()).status).toBe(200);
  });

  test('a busy event loop is no dead peer: what has arrived is read first', async () => {
    const pings = new Int32Array(new SharedArrayBuffer(4));
    const server = new Worker(answering, { eval: true, workerData: pings });
    onTestFinished(async () => void (await server.terminate()));
    const [port] = (await once(server, 'message')) as [number];
    const { get, clock } = connectTo([new URL(`http://127.0.0.1:${port}`)]);
    const watch = new Reading(await get(watchServices));
    await clock.ping(1);
    // Node sends it in a turn of its own.
    await nextTurn();
    // The loop stands still until the answer is in the socket, and then time is up.
    expect(Atomics.wait(pings, 0, 0, 10_000)).not.toBe('timed-out');
    clock.advance(3000);
    await until(() => clock.nextTimer === clock.now() + 3000);
    expect([watch.end, (await get()).status]).toEqual([undefined, 200]);
  });

  test('by a reset: streams throw, a request that waits is rejected', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get } = connectTo([url]);
    const watch = new Reading(await get(watchServices));
    api.fault = () => 'hang';
    const waiting = get();
    await until(() => api.asked.length === 2);
    proxy.reset();
    await expect(waiting).rejects.toThrow(Unreachable);
    await until(() => watch.end !== undefined);
    expect(watch.end).toBeInstanceOf(Unreachable);
    api.serve();
    expect((await get()).status).toBe(200);
  });

  test('by the server going away at once, or one stream being cut: no end in good order', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const first = new Reading(await get(watchServices));
    api.cut();
    await until(() => first.end !== undefined);
    expect(first.end).toBeInstanceOf(Unreachable);
    const second = new Reading(await get(watchServices));
    for (const session of served.sessions) session.destroy();
    await until(() => second.end !== undefined);
    expect(second.end).toBeInstanceOf(Unreachable);
    const third = new Reading(await get(watchServices));
    api.end();
    await until(() => third.end !== undefined);
    expect(third.end).toBe('end');
  });

  test('cancelled by the server is no end in good order either', async () => {
    const { served } = await listen();
    const { get } = connectTo([served.url]);
    const watch = new Reading(await get(watchServices));
    served.sessions[0]?.on('stream', (stream) => stream.destroy(new DOMException('no more', 'AbortError')));
    await expect(get(watchServices).then(textOf)).rejects.toThrow(Unreachable);
    expect(watch.end).toBeUndefined();
  });

  test('GOAWAY: new requests have a new connection at once, the old watch goes on until it ends', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const watch = new Reading(await get(watchServices));
    const [old] = served.sessions;
    old?.goaway();
    // It may take a moment to arrive: what comes too late is refused, and tried again.
    await until(() => served.requests.length > 0);
    let second: ApiResponse | undefined;
    while (served.count < 2) second = await get().catch(() => undefined);
    expect(second?.status).toBe(200);
    api.put(service('web'));
    await until(() => watch.text.includes('web'));
    expect(watch.end).toBeUndefined();
    api.end();
    await until(() => watch.end !== undefined && served.sessions.length === 1);
    expect([watch.end, served.count]).toEqual(['end', 2]);
  });

  test('in good order, and the peer does not end it too: nobody pings it, and the socket goes', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get, clock } = connectTo([url]);
    const watch = new Reading(await get(watchServices));
    proxy.holdEnds();
    served.sessions[0]?.goaway();
    api.end();
    await until(() => watch.end !== undefined);
    clock.advance(3000);
    await until(() => clock.nextTimer === undefined);
    expect((await get()).status).toBe(200);
  });

  test('close() ends every stream and leaves nothing, for good', async () => {
    const { served } = await listen();
    const { get, connection, clock } = connectTo([served.url]);
    const watch = new Reading(await get(watchServices));
    connection.close();
    await until(() => watch.end !== undefined && served.sessions.length === 0);
    expect([watch.end, clock.nextTimer]).toEqual([expect.any(Unreachable), undefined]);
    await expect(get()).rejects.toThrow(new Unreachable('the connection was closed'));
  });

  test('close() while it is being opened', async () => {
    const { served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    proxy.swallow();
    const { get, connection, clock } = connectTo([url]);
    const answer = get();
    await nextTurn();
    connection.close();
    await expect(answer).rejects.toThrow(Unreachable);
    expect(clock.nextTimer).toBeUndefined();
  });
});
