// SPDX-License-Identifier: Apache-2.0
// The connection to the API server: requests, their ends, and servers that cannot be had.
import { getEventListeners } from 'node:events';
import { constants } from 'node:http2';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { CredentialError, Unreachable } from '../../../daemon/source/kubernetes/api-client.ts';
import { ListDecoder } from '../../../daemon/source/kubernetes/json-stream.ts';
import { tooMany, unavailable } from '../../support/double/statuses.ts';
import { closedPort, connectTo, listen, proxyTo, Reading, services, textOf, until, watchServices } from './connection-fixture.ts';
import { service } from './kubernetes-fixture.ts';

describe('requests', () => {
  test('share one connection and are answered', async () => {
    const { api, served } = await listen();
    api.put(service('web'));
    const { get } = connectTo([served.url]);
    const answers = await Promise.all([get(), get(), get(watchServices)]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(JSON.parse(await textOf(answers[0]))).toMatchObject({ items: [{ metadata: { name: 'web' } }] });
    expect(served.count).toBe(1);
  });

  test('carry the path, behind the prefix of an address that has one', async () => {
    const { served } = await listen({ prefix: '/k8s/clusters/c-1' });
    const { get } = connectTo([new URL(`${served.url.href}/`)]);
    expect((await get(`${services}?limit=5`)).status).toBe(200);
    expect(served.requests.map(({ path }) => path)).toEqual(['/k8s/clusters/c-1/api/v1/services?limit=5']);
  });

  test('ask for the token each time, and show none when there is none', async () => {
    const { served } = await listen();
    const tokens = ['Bearer a', 'Bearer b', undefined];
    const { get } = connectTo([served.url], { authorization: () => Promise.resolve(tokens.shift()) });
    for (let i = 0; i < 3; i += 1) await textOf(await get());
    expect(served.requests.map(({ authorization }) => authorization)).toEqual(['Bearer a', 'Bearer b', undefined]);
  });

  test('fail when there is no credential, without a word to the server', async () => {
    const { served } = await listen();
    const { get } = connectTo([served.url], { authorization: () => Promise.reject(new CredentialError('/token: ENOENT')) });
    await expect(get()).rejects.toThrow(new CredentialError('/token: ENOENT'));
    expect(served.count).toBe(0);
  });

  test('401 makes the access forget what it showed; other refusals do not', async () => {
    const { api, served } = await listen();
    const { get, forgotten } = connectTo([served.url]);
    api.fault = () => tooMany(7);
    const busy = await get();
    expect(busy).toMatchObject({ status: 429, retryAfter: 7 });
    await textOf(busy);
    expect(forgotten.times).toBe(0);
    api.serve();
    api.isTokenGood = false;
    const answer = await get();
    expect([answer.status, answer.retryAfter, forgotten.times]).toEqual([401, undefined, 1]);
    expect(JSON.parse(await textOf(answer))).toMatchObject({ kind: 'Status', reason: 'Unauthorized' });
    // The old connection goes when nothing runs on it any more: it may have shown a client certificate.
    await until(() => served.sessions.length === 0);
    api.isTokenGood = true;
    expect(await get()).toMatchObject({ status: 200 });
    expect(served.count).toBe(2);
  });

  test('a list of 20 MB arrives whole, while a watch beside it goes on', async () => {
    const { api, served } = await listen();
    const annotations = { text: 'x'.repeat(20_000) };
    api.put(...Array.from({ length: 1000 }, (_, i) => service(`s${i}`, '10.96.0.1', { annotations })));
    const { get } = connectTo([served.url]);
    const watch = new Reading(await get(`${services}?watch=1&resourceVersion=${api.store.revision}`));
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
    // It arrives soon since the server may send far ahead of the reader.
    expect(served.sessions[0]?.remoteSettings.initialWindowSize).toBe(1 << 20);
    expect(served.sessions[0]?.state.remoteWindowSize).toBeGreaterThan(1 << 19);
  });
});

describe('aborting', () => {
  test('a watch cancels its stream on the server; others go on', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const abort = new AbortController();
    const watch = new Reading(await get(watchServices, abort.signal));
    const other = new Reading(await get(watchServices));
    abort.abort(new Error('enough'));
    await until(() => api.watching === 1 && watch.end !== undefined);
    expect([watch.end, served.codes]).toEqual([new Error('enough'), [constants.NGHTTP2_CANCEL]]);
    api.put(service('web'));
    await until(() => other.text.includes('web'));
    expect(served.count).toBe(1);
  });

  test('before, while connecting, and before the answer rejects with the reason of the signal', async () => {
    const { api, served } = await listen();
    const reason = new Error('enough');
    const { get } = connectTo([served.url]);
    await expect(get(services, AbortSignal.abort(reason))).rejects.toBe(reason);
    const connecting = new AbortController();
    const first = get(services, connecting.signal);
    connecting.abort(reason);
    await expect(first).rejects.toBe(reason);
    api.fail('hang');
    const waiting = new AbortController();
    const second = get(services, waiting.signal);
    await until(() => api.asked.length === 1);
    waiting.abort(reason);
    await expect(second).rejects.toBe(reason);
    await until(() => served.codes.length === 1);
    expect(served.codes).toEqual([constants.NGHTTP2_CANCEL]);
  });

  test('during the question for the token', async () => {
    const { served } = await listen();
    const abort = new AbortController();
    const authorization = (): Promise<undefined> => {
      abort.abort(new Error('enough'));
      return Promise.resolve(undefined);
    };
    await expect(connectTo([served.url], { authorization }).get(services, abort.signal)).rejects.toThrow('enough');
    expect(served.count).toBe(0);
  });

  test('while somebody else takes long over the token', async () => {
    const { served } = await listen();
    const abort = new AbortController();
    const answer = connectTo([served.url], { authorization: () => new Promise(() => undefined) }).get(services, abort.signal);
    await nextTurn();
    abort.abort(new Error('enough'));
    await expect(answer).rejects.toThrow('enough');
  });

  test('leaving the loop cancels, too', async () => {
    const { api, served } = await listen();
    const { get } = connectTo([served.url]);
    const { body } = await get(watchServices);
    api.put(service('web'));
    for await (const _ of body) break;
    await until(() => served.codes.length === 1);
    expect(api.watching).toBe(0);
  });

  test('requests leave no listener on the signal and no timer behind', async () => {
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

describe('a server that cannot be had', () => {
  test('refuses: a sentence', async () => {
    const url = await closedPort();
    const { get, clock } = connectTo([url]);
    await expect(get()).rejects.toThrow(new Unreachable(`${url.origin} cannot be reached: connect ECONNREFUSED ${url.host}`));
    expect(clock.nextTimer).toBeUndefined();
    const named = connectTo([new URL(`http://localhost:${url.port}`)]);
    await expect(named.get()).rejects.toThrow(/localhost:\d+ cannot be reached: connect ECONNREFUSED/);
  });

  test('accepts and never says a word: given up in 2 s', async () => {
    const { served } = await listen();
    const { proxy, url } = await proxyTo(served.url);
    proxy.swallow();
    const { get, clock } = connectTo([url]);
    // Twice as long each time: it may only be busy, with everybody at once.
    for (const seconds of [2, 4, 8, 8]) {
      const before = clock.timers;
      const answer = get();
      await until(() => clock.timers === before + 3);
      clock.advance(seconds * 1000);
      await expect(answer).rejects.toThrow(
        new Unreachable(`${url.origin} cannot be reached: no answer to the handshake within ${seconds} s`),
      );
    }
    proxy.pass();
    expect((await get()).status).toBe(200);
  });

  test('has a name that takes long to look up: 12 s', async () => {
    const { served } = await listen();
    const { get, clock } = connectTo([new URL(`http://slow.invalid:${served.url.port}`)]);
    const answer = get().catch((error: unknown) => error);
    await until(() => clock.timers === 1);
    expect(clock.nextTimer).toBe(12_000);
    expect(await answer).toBeInstanceOf(Unreachable);
  });

  test('answers pings and no request: given up in 10 s, and the next request has a new connection', async () => {
    const { api, served } = await listen();
    const { get, clock } = connectTo([served.url]);
    const watch = new Reading(await get(watchServices));
    api.fault = () => 'hang';
    const answer = get();
    await until(() => api.asked.length === 2);
    clock.advance(10_000);
    await expect(answer).rejects.toThrow(new Unreachable(`${served.url.origin} has not answered for 10 s`));
    api.serve();
    expect((await get()).status).toBe(200);
    expect(served.count).toBe(2);
    // What runs on the old one may go on.
    api.put(service('web'));
    await until(() => watch.text.includes('web'));
  });

  test('has a second one, which is asked next, and stays', async () => {
    const { served } = await listen();
    const { get } = connectTo([await closedPort(), served.url]);
    await expect(get()).rejects.toThrow(Unreachable);
    for (let i = 0; i < 3; i += 1) expect((await get()).status).toBe(200);
    expect(served.count).toBe(1);
  });

  test('answers, but badly: its second one is asked next', async () => {
    const [first, second] = [await listen(), await listen()];
    const { get } = connectTo([first.served.url, second.served.url]);
    first.api.fault = () => unavailable();
    const bad = await get();
    await textOf(bad);
    expect([bad.status, (await get()).status, first.served.count, second.served.count]).toEqual([503, 200, 1, 1]);
    await until(() => first.served.sessions.length === 0);
  });

  test('hangs: its second one is asked next', async () => {
    const [first, second] = [await listen(), await listen()];
    const { get, clock } = connectTo([first.served.url, second.served.url]);
    first.api.fail('hang');
    const answers = Promise.allSettled([get(), get(), get()]);
    await until(() => first.api.asked.length === 3);
    clock.advance(10_000);
    expect((await answers).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    await get();
    expect([first.served.count, second.served.count]).toEqual([1, 1]);
    await until(() => first.served.sessions.length === 0);
  });
});
