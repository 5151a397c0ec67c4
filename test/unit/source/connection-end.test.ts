// SPDX-License-Identifier: Apache-2.0
// The end of a connection to the API server: by lost packets, by a reset, by GOAWAY, by close(). The streams of the connection
// fail, and the next request opens a new connection.
import { once } from 'node:events';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ApiResponse, UnreachableError } from '../../../daemon/source/kubernetes/api-client.ts';
import { connectTo, listen, proxyTo, StreamReader, textOf, until, watchServices } from './connection-fixture.ts';
import { service } from './kubernetes-fixture.ts';

/** The code of a server that runs in a thread, so that it answers pings while the main thread is blocked. */
const pingServer = `
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

describe('the end of a connection', () => {
  test('the loss of all packets is detected by pings within 6 s; all streams fail, and the next request opens a new connection', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get, clock } = connectTo([url]);
    const watches = [new StreamReader(await get(watchServices)), new StreamReader(await get(watchServices))];
    // The server answers these five pings.
    for (let round = 0; round < 5; round += 1) await clock.ping(2);
    proxy.drop();
    await clock.ping(1);
    api.put(service('web'));
    await nextTurn();
    expect(watches.map(({ end }) => end)).toEqual([undefined, undefined]);
    clock.advance(3000);
    await until(() => watches.every(({ end }) => end !== undefined));
    const message = `the connection to ${url.origin} was interrupted: no answer to a ping within 3 s`;
    expect(watches.map(({ end }) => end)).toEqual([new UnreachableError(message), new UnreachableError(message)]);
    expect(watches.map(({ text }) => text)).toEqual(['', '']);
    expect(clock.nextTimer).toBeUndefined();
    proxy.forward();
    expect((await get()).status).toBe(200);
  });

  test('a blocked event loop does not end the connection, because an answer that has arrived is read first', async () => {
    const pings = new Int32Array(new SharedArrayBuffer(4));
    const server = new Worker(pingServer, { eval: true, workerData: pings });
    onTestFinished(async () => void (await server.terminate()));
    const [port] = (await once(server, 'message')) as [number];
    const { get, clock } = connectTo([new URL(`http://127.0.0.1:${port}`)]);
    const watch = new StreamReader(await get(watchServices));
    await clock.ping(1);
    // Node.js sends the ping in a later turn of the event loop.
    await nextTurn();
    // Blocks the event loop until the server has answered the ping. Then the time limit expires before the answer is read.
    expect(Atomics.wait(pings, 0, 0, 10_000)).not.toBe('timed-out');
    clock.advance(3000);
    await until(() => clock.nextTimer === clock.now() + 3000);
    expect([watch.end, (await get()).status]).toEqual([undefined, 200]);
  });

  test('a reset makes streams and pending requests fail', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get } = connectTo([url]);
    const watch = new StreamReader(await get(watchServices));
    api.fault = () => 'hang';
    const waiting = get();
    await until(() => api.requests.length === 2);
    proxy.reset();
    await expect(waiting).rejects.toThrow(UnreachableError);
    await until(() => watch.end !== undefined);
    expect(watch.end).toBeInstanceOf(UnreachableError);
    api.serve();
    expect((await get()).status).toBe(200);
  });

  test('a stream fails if the server interrupts it or its connection, but not if the server ends the stream normally', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const first = new StreamReader(await get(watchServices));
    api.cut();
    await until(() => first.end !== undefined);
    expect(first.end).toBeInstanceOf(UnreachableError);
    const second = new StreamReader(await get(watchServices));
    for (const session of served.sessions) session.destroy();
    await until(() => second.end !== undefined);
    expect(second.end).toBeInstanceOf(UnreachableError);
    const third = new StreamReader(await get(watchServices));
    api.end();
    await until(() => third.end !== undefined);
    expect(third.end).toBe('end');
  });

  test('a stream that the server cancels is the only stream that fails', async () => {
    const { served } = await listen();
    const { get } = connectTo([served.url]);
    const watch = new StreamReader(await get(watchServices));
    served.sessions[0]?.on('stream', (stream) => stream.destroy(new DOMException('cancelled', 'AbortError')));
    await expect(get(watchServices).then(textOf)).rejects.toThrow(UnreachableError);
    expect(watch.end).toBeUndefined();
  });

  test('after GOAWAY, new requests open a new connection, and a watch on the previous connection continues until it ends', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const watch = new StreamReader(await get(watchServices));
    const [old] = served.sessions;
    old?.goaway();
    // The server refuses a request that is sent before the GOAWAY arrives. The test sends such a request again.
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

  test('the end of a connection whose peer keeps its side open stops the pings and destroys the socket', async () => {
    const { api, served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    const { get, clock } = connectTo([url]);
    const watch = new StreamReader(await get(watchServices));
    proxy.holdEnds();
    served.sessions[0]?.goaway();
    api.end();
    await until(() => watch.end !== undefined);
    clock.advance(3000);
    await until(() => clock.nextTimer === undefined);
    expect((await get()).status).toBe(200);
  });

  test('close() makes all streams fail, leaves no timer, and makes further requests fail', async () => {
    const { served } = await listen();
    const { get, connection, clock } = connectTo([served.url]);
    const watch = new StreamReader(await get(watchServices));
    connection.close();
    await until(() => watch.end !== undefined && served.sessions.length === 0);
    expect([watch.end, clock.nextTimer]).toEqual([expect.any(UnreachableError), undefined]);
    await expect(get()).rejects.toThrow(new UnreachableError('the connection was closed'));
  });

  test('close() while the connection is being opened makes the request fail and leaves no timer', async () => {
    const { served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    proxy.drop();
    const { get, connection, clock } = connectTo([url]);
    const answer = get();
    await nextTurn();
    connection.close();
    await expect(answer).rejects.toThrow(UnreachableError);
    expect(clock.nextTimer).toBeUndefined();
  });
});
