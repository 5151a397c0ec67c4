// SPDX-License-Identifier: Apache-2.0
// The connection to the API server: requests, their cancellation, and servers that fail.
import { getEventListeners } from 'node:events';
import { constants } from 'node:http2';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { CredentialError, UnreachableError } from '../../../daemon/source/kubernetes/api-client.ts';
import { ListDecoder } from '../../../daemon/source/kubernetes/json-stream.ts';
import { tooMany, unavailable } from '../../support/double/statuses.ts';
import {
  addressesOf,
  closedPort,
  connectTo,
  listen,
  proxyTo,
  StreamReader,
  services,
  textOf,
  until,
  watchServices,
} from './connection-fixture.ts';
import { service } from './kubernetes-fixture.ts';

describe('requests', () => {
  test('simultaneous requests share one connection', async () => {
    const { api, served } = await listen();
    api.put(service('web'));
    const { get } = connectTo([served.url]);
    const answers = await Promise.all([get(), get(), get(watchServices)]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(JSON.parse(await textOf(answers[0]))).toMatchObject({ items: [{ metadata: { name: 'web' } }] });
    expect(served.count).toBe(1);
  });

  test('the path of a request begins with the path of the server address', async () => {
    const { served } = await listen({ prefix: '/k8s/clusters/c-1' });
    const { get } = connectTo([new URL(`${served.url.href}/`)]);
    expect((await get(`${services}?limit=5`)).status).toBe(200);
    expect(served.requests.map(({ path }) => path)).toEqual(['/k8s/clusters/c-1/api/v1/services?limit=5']);
  });

  test('each request uses the present token, and has no Authorization header if there is no token', async () => {
    const { served } = await listen();
    const tokens = ['Bearer a', 'Bearer b', undefined];
    const { get } = connectTo([served.url], { authorization: () => Promise.resolve(tokens.shift()) });
    for (let i = 0; i < 3; i += 1) await textOf(await get());
    expect(served.requests.map(({ authorization }) => authorization)).toEqual(['Bearer a', 'Bearer b', undefined]);
  });

  test('a request without a credential fails, and opens no connection', async () => {
    const { served } = await listen();
    const { get } = connectTo([served.url], { authorization: () => Promise.reject(new CredentialError('cannot read /token')) });
    await expect(get()).rejects.toThrow(new CredentialError('cannot read /token'));
    expect(served.count).toBe(0);
  });

  test('the credential is invalidated after 401, and not after other refusals', async () => {
    const { api, served } = await listen();
    const { get, invalidated } = connectTo([served.url]);
    api.fault = () => tooMany(7);
    const busy = await get();
    expect(busy).toMatchObject({ status: 429, retryAfter: 7 });
    await textOf(busy);
    expect(invalidated.times).toBe(0);
    api.serve();
    api.acceptsToken = false;
    const answer = await get();
    expect([answer.status, answer.retryAfter, invalidated.times]).toEqual([401, undefined, 1]);
    expect(JSON.parse(await textOf(answer))).toMatchObject({ kind: 'Status', reason: 'Unauthorized' });
    // The server may have refused the client certificate of the connection, so the connection closes after its last stream.
    await until(() => served.sessions.length === 0);
    api.acceptsToken = true;
    expect(await get()).toMatchObject({ status: 200 });
    expect(served.count).toBe(2);
  });

  test('a response of 20 MB is received completely while a watch continues', async () => {
    const { api, served } = await listen();
    const annotations = { text: 'x'.repeat(20_000) };
    api.put(...Array.from({ length: 1000 }, (_, i) => service(`s${i}`, '10.96.0.1', { annotations })));
    const { get } = connectTo([served.url]);
    const watch = new StreamReader(await get(`${services}?watch=1&resourceVersion=${api.store.revision}`));
    const decoder = new ListDecoder();
    let count = 0;
    let bytes = 0;
    for await (const piece of (await get()).body) {
      count += decoder.push(piece).length;
      bytes += piece.length;
      if (count === 500) api.put(service('s1'));
    }
    expect([count, bytes > 20e6]).toEqual([1000, true]);
    await until(() => watch.text.includes('"s1"'));
    // The windows are large, so the server can send the event before the client has read all data of the list.
    expect(served.sessions[0]?.remoteSettings.initialWindowSize).toBe(1 << 20);
    expect(served.sessions[0]?.state.remoteWindowSize).toBeGreaterThan(1 << 19);
  });
});

describe('aborting a request', () => {
  test('aborting a request cancels its stream on the server, and other streams continue', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const abort = new AbortController();
    const watch = new StreamReader(await get(watchServices, abort.signal));
    const other = new StreamReader(await get(watchServices));
    abort.abort(new Error('aborted'));
    await until(() => api.watchCount === 1 && watch.end !== undefined);
    expect([watch.end, served.streamCodes]).toEqual([new Error('aborted'), [constants.NGHTTP2_CANCEL]]);
    api.put(service('web'));
    await until(() => other.text.includes('web'));
    expect(served.count).toBe(1);
  });

  test('an abort before the start, while connecting or before the response rejects with the reason of the signal', async () => {
    const { api, served } = await listen();
    const reason = new Error('aborted');
    const { get } = connectTo([served.url]);
    await expect(get(services, AbortSignal.abort(reason))).rejects.toBe(reason);
    const connecting = new AbortController();
    const first = get(services, connecting.signal);
    connecting.abort(reason);
    await expect(first).rejects.toBe(reason);
    api.fail('hang');
    const waiting = new AbortController();
    const second = get(services, waiting.signal);
    await until(() => api.requests.length === 1);
    waiting.abort(reason);
    await expect(second).rejects.toBe(reason);
    await until(() => served.streamCodes.length === 1);
    expect(served.streamCodes).toEqual([constants.NGHTTP2_CANCEL]);
  });

  test('an abort while the token is read rejects the request', async () => {
    const { served } = await listen();
    const abort = new AbortController();
    const authorization = (): Promise<undefined> => {
      abort.abort(new Error('aborted'));
      return Promise.resolve(undefined);
    };
    await expect(connectTo([served.url], { authorization }).get(services, abort.signal)).rejects.toThrow('aborted');
    expect(served.count).toBe(0);
  });

  test('an abort while the token is not available rejects the request', async () => {
    const { served } = await listen();
    const abort = new AbortController();
    const answer = connectTo([served.url], { authorization: () => new Promise(() => undefined) }).get(services, abort.signal);
    await nextTurn();
    abort.abort(new Error('aborted'));
    await expect(answer).rejects.toThrow('aborted');
  });

  test('leaving the loop over the body of a response cancels the stream', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const { body } = await get(watchServices);
    api.put(service('web'));
    for await (const _ of body) break;
    await until(() => served.streamCodes.length === 1);
    expect(api.watchCount).toBe(0);
  });

  test('a request that has ended keeps no listener on its signal and no timer', async () => {
    const { served } = await listen();
    const { get, clock, connection } = connectTo([served.url]);
    const { signal } = new AbortController();
    for (let i = 0; i < 20; i += 1) await textOf(await get(services, signal));
    await until(() => getEventListeners(signal, 'abort').length === 0);
    connection.close();
    await until(() => served.sessions.length === 0);
    expect(clock.nextTimer).toBeUndefined();
  });
});

describe('a server', () => {
  test('the error of a refused connection names the server', async () => {
    const url = await closedPort();
    const { get, clock } = connectTo([url]);
    await expect(get()).rejects.toThrow(new UnreachableError(`${url.origin} cannot be reached: connect ECONNREFUSED ${url.host}`));
    expect(clock.nextTimer).toBeUndefined();
    const named = connectTo([new URL(`http://localhost:${url.port}`)]);
    await expect(named.get()).rejects.toThrow(/localhost:\d+ cannot be reached: connect ECONNREFUSED/);
  });

  test('a server that accepts the connection and sends nothing is given up after 2 s, then after 4 s and 8 s', async () => {
    const { served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    proxy.drop();
    const { get, clock } = connectTo([url]);
    // Connections of all nodes may overload the server, so the time limit doubles after each failure.
    for (const seconds of [2, 4, 8, 8]) {
      const before = clock.timers;
      const answer = get();
      await until(() => clock.timers === before + 3);
      clock.advance(seconds * 1000);
      await expect(answer).rejects.toThrow(
        new UnreachableError(`${url.origin} cannot be reached: no TLS and HTTP/2 handshake within ${seconds} s`),
      );
    }
    proxy.forward();
    expect((await get()).status).toBe(200);
  });

  test('a server whose name is not resolved is given up after 12 s', async () => {
    const { served } = await listen();
    const { get, clock } = connectTo([new URL(`http://slow.invalid:${served.url.port}`)]);
    const answer = get().catch((error: unknown) => error);
    await until(() => clock.timers === 1);
    expect(clock.lastMs).toBe(12_000);
    expect(await answer).toBeInstanceOf(UnreachableError);
  });

  test('a server that answers pings but no requests is given up after 10 s, and the next request opens a new connection', async () => {
    const { api, served } = await listen();
    const { get, clock } = connectTo([served.url]);
    const watch = new StreamReader(await get(watchServices));
    api.fault = () => 'hang';
    const answer = get();
    await until(() => api.requests.length === 2);
    clock.advance(10_000);
    await expect(answer).rejects.toThrow(new UnreachableError(`${served.url.origin} did not respond within 10 s`));
    api.serve();
    expect((await get()).status).toBe(200);
    expect(served.count).toBe(2);
    // The streams of the previous connection continue.
    api.put(service('web'));
    await until(() => watch.text.includes('web'));
  });

  test('a server that fails is replaced by the second server, which is then kept', async () => {
    const { served } = await listen();
    const { get } = connectTo([await closedPort(), served.url]);
    await expect(get()).rejects.toThrow(UnreachableError);
    for (let i = 0; i < 3; i += 1) expect((await get()).status).toBe(200);
    expect(served.count).toBe(1);
  });

  test('a server that returns 503 is replaced by the second server', async () => {
    const [first, second] = [await listen(), await listen()];
    const { get } = connectTo([first.served.url, second.served.url]);
    first.api.fault = () => unavailable();
    const refused = await get();
    await textOf(refused);
    expect([refused.status, (await get()).status, first.served.count, second.served.count]).toEqual([503, 200, 1, 1]);
    await until(() => first.served.sessions.length === 0);
  });

  test('a server that does not respond is replaced by the second server', async () => {
    const [first, second] = [await listen(), await listen()];
    const { get, clock } = connectTo([first.served.url, second.served.url]);
    first.api.fail('hang');
    const answers = Promise.allSettled([get(), get(), get()]);
    await until(() => first.api.requests.length === 3);
    clock.advance(10_000);
    expect((await answers).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    await get();
    expect([first.served.count, second.served.count]).toEqual([1, 1]);
    await until(() => first.served.sessions.length === 0);
  });
});

describe('the addresses of the API server', () => {
  test('the addresses of the API server are those in the URLs from the start, with the default port of the scheme', () => {
    const { rows } = addressesOf([new URL('https://192.0.2.1'), new URL('https://[2001:DB8::1]:6443'), new URL('https://localhost:1')]);
    expect(rows()).toEqual(['192.0.2.1:443', '[2001:db8::1]:6443']);
  });

  test('the addresses include those of a server name, before a packet is sent, and the peer of each open connection', async () => {
    const { served } = await listen();
    const closed = await closedPort();
    const named = new URL(`http://localhost:${served.url.port}`);
    const servers = [new URL(`http://localhost:${closed.port}`), named];
    const { table, rows, addresses } = addressesOf(servers);
    const { get, connection } = connectTo(servers, {}, addresses);
    expect(rows()).toEqual([]);
    // The first server refuses the connection.
    await expect(get()).rejects.toThrow(UnreachableError);
    expect(rows()).toContain(`127.0.0.1:${closed.port}`);
    await get();
    expect(rows()).toContain(`127.0.0.1:${served.url.port}`);
    // The name resolves to other addresses. The open connection keeps its address.
    addresses.resolved(named, ['192.0.2.7', 'not an address']);
    expect(rows()).toEqual(expect.arrayContaining([`127.0.0.1:${named.port}`, `192.0.2.7:${named.port}`]));
    connection.close();
    await until(() => table.get(`127.0.0.1:${named.port}`) === undefined);
    expect(rows()).toContain(`192.0.2.7:${named.port}`);
    expect(table.initialized).toBe(true);
  });

  test('the number of addresses per server is limited', () => {
    const server = new URL('https://api.example');
    const { rows, addresses } = addressesOf([server]);
    addresses.resolved(
      server,
      Array.from({ length: 1000 }, (_, n) => `10.0.${n >> 8}.${n & 255}`),
    );
    expect(rows()).toHaveLength(64);
  });
});
