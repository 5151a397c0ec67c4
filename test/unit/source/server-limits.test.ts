// SPDX-License-Identifier: Apache-2.0
// An API server that sends too much data, or repeats the credentials of the request in its responses. The rows must stay. The message
// names the resource and the limit. No credential may appear in a message or in the log.
import { createServer, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { messageOf } from '../../../daemon/base/errors.ts';
import { MAX_OBJECTS, MAX_PAGES } from '../../../daemon/source/kubernetes/limits.ts';
import { list } from '../../../daemon/source/kubernetes/list-watch.ts';
import { Redactor } from '../../../daemon/source/kubernetes/redact.ts';
import { resourcesOf } from '../../../daemon/source/kubernetes/resources.ts';
import type { Fault } from '../../support/double/api-server.ts';
import { connectTo } from './connection-fixture.ts';
import { oneOfEach, service, startKubernetes } from './kubernetes-fixture.ts';

const object = JSON.stringify(service('web', '10.96.0.1'));
const listOf = (items: string, metadata = '{"resourceVersion":"9"}'): string => `{"metadata":${metadata},"items":[${items}]}`;
const eventOf = (text: string): string => `{"type":"ADDED","object":${text}}\n`;
const large = `{"metadata":{"name":"x","annotations":{"a":"${'x'.repeat(8 * 2 ** 20)}"}}}`;
const deep = `{"metadata":{"name":"x"},"spec":${'['.repeat(100_000)}${']'.repeat(100_000)}}`;

describe('a response that exceeds a limit', () => {
  const cases: { name: string; isStreaming: boolean; body: string; want: string }[] = [
    { name: 'an object in a list', isStreaming: false, body: listOf(large), want: 'an object of more than 8 MiB' },
    { name: 'an object in a watch', isStreaming: true, body: eventOf(large), want: 'an event of more than 8 MiB' },
    { name: 'a line without an end', isStreaming: true, body: ' '.repeat(9 * 2 ** 20), want: 'an event of more than 8 MiB' },
    {
      name: 'a continue token',
      isStreaming: false,
      body: listOf(object, `{"continue":"${'x'.repeat(2 ** 20)}"}`),
      want: 'a list whose fields besides the items have a size of more than 1 MiB',
    },
    {
      name: 'the depth of an object in a list',
      isStreaming: false,
      body: listOf(deep),
      want: 'JSON that is nested more than 200 levels deep',
    },
    {
      name: 'the depth of an object in a watch',
      isStreaming: true,
      body: eventOf(deep),
      want: 'JSON that is nested more than 200 levels deep',
    },
    {
      name: 'the depth of a list',
      isStreaming: false,
      body: `{"a":${'['.repeat(300)}`,
      want: 'JSON that is nested more than 200 levels deep',
    },
  ];

  test.for(cases)('a response is refused because of $name', async ({ isStreaming, body, want }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) =>
      Object.assign(server, { hasStreamingLists: isStreaming, pieceBytes: 1 << 20 }),
    );
    const fault: Fault = { body };
    world.server.fault = ({ collection, verb }) =>
      collection.kind === 'Service' && verb === (isStreaming ? 'watch' : 'list') ? fault : undefined;
    const before = world.services;
    await world.source.rescan();
    await world.advance(0);
    expect(world.messages).toEqual([`cannot watch services: the server sent ${want}`]);
    expect(world.services).toEqual(before);
    world.requests();
    await world.advance(600_000);
    // Each retry transfers all the data again, so the source must retry less and less often.
    expect(world.requests('Service').length).toBeLessThan(60);
    world.server.fault = () => undefined;
    await world.advance(60_000);
    expect([world.messages, world.source.isComplete]).toEqual([[], true]);
    world.expectEqual();
  });

  test('a list that never ends is refused after the maximum number of pages', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => Object.assign(server, { hasStreamingLists: false }));
    let pages = 0;
    world.server.fault = ({ collection, verb }) => {
      if (collection.kind !== 'Service' || verb !== 'list') return undefined;
      pages += 1;
      return { body: listOf(object, '{"continue":"again"}') };
    };
    await world.source.rescan();
    while (world.messages.length === 0) await world.turn();
    expect(world.messages).toEqual([`cannot watch services: the server sent a list of more than ${MAX_PAGES} pages`]);
    expect([pages, world.services]).toEqual([MAX_PAGES, ['default/web']]);
  });

  test('a list of too many objects is refused', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) =>
      Object.assign(server, { hasStreamingLists: false, pieceBytes: 1 << 20 }),
    );
    const page = listOf(Array.from({ length: 50_000 }, () => '{}').join(), '{"continue":"again"}');
    world.server.fault = () => ({ body: page });
    const [resource] = resourcesOf('node-1');
    if (resource === undefined) throw new Error('there is no resource');
    const { client, clock } = world;
    let count = 0;
    const readAll = async (): Promise<void> => {
      for await (const part of list({ client, clock, resource, random: () => 0, signal: new AbortController().signal }))
        if ('items' in part) count += part.items.length;
    };
    await expect(readAll()).rejects.toThrow(`the server sent a list of more than ${MAX_OBJECTS} objects`);
    expect(count).toBeLessThanOrEqual(MAX_OBJECTS);
  });

  test.for([
    { name: 'a large header', headers: { 'x-large': 'x'.repeat(40_000) }, want: /sent headers of more than 32 KiB$/ },
    {
      name: 'many headers',
      headers: Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`x-${i}`, 'x'])),
      want: /interrupted|closed the connection/,
    },
  ])('a response is refused because of $name', async ({ headers, want }) => {
    const server = createServer({ settings: { maxHeaderListSize: 1 << 20 }, maxSendHeaderBlockLength: 1 << 20 });
    server.on('stream', (stream: ServerHttp2Stream) => {
      stream.on('error', () => undefined);
      stream.respond({ ':status': 200, ...headers });
      stream.end('{}');
    });
    server.on('sessionError', () => undefined);
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { get } = connectTo([new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)]);
    const error: unknown = await get().then(
      () => 'a response',
      (reason: unknown) => reason,
    );
    expect(messageOf(error)).toMatch(want);
  });
});

describe('credentials', () => {
  const token = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQifQ.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg';
  const opaque = 'opaque-token-0123456789-abcdefghij';

  test.for([
    { name: 'the whole token', text: `invalid token ${opaque} given` },
    { name: 'the beginning of the token', text: `invalid token ${opaque.slice(0, 20)}` },
    { name: 'the end of the token', text: `${opaque.slice(-17)} is invalid` },
    { name: 'the token in a header', text: `Authorization: Bearer ${opaque}` },
    { name: 'the token in a URL', text: `redirected to https://login/?token=${opaque}#x` },
    { name: 'the token in JSON', text: JSON.stringify({ a: JSON.stringify({ token: opaque }) }) },
    { name: 'the token in base64', text: `Basic ${Buffer.from(opaque).toString('base64')}` },
    { name: 'a user and a password', text: `cannot connect to https://me:${opaque}@proxy:8080/` },
    { name: 'the token twice', text: `${opaque}${opaque}` },
    { name: 'the token after a long text', text: `${'x'.repeat(4090)}${opaque}` },
  ])('credentials are removed: $name', ({ text }) => {
    const redactor = new Redactor();
    redactor.remember(`Bearer ${opaque}`);
    for (let i = 0; i < 5; i += 1) redactor.remember(`Bearer later-token-${i}-0123456789`);
    const cleaned = redactor.redact(text);
    for (let at = 0; at + 12 <= opaque.length; at += 1) expect(cleaned).not.toContain(opaque.slice(at, at + 12));
    expect(cleaned).not.toContain(Buffer.from(opaque).toString('base64').slice(0, 12));
  });

  test.for([
    { name: 'a web token', text: `token ${token} expired`, want: 'token <redacted> expired' },
    { name: 'a web token that was cut', text: `token ${token.slice(0, 30)}...`, want: 'token <redacted>' },
    { name: 'a header', text: 'sent Bearer abcdefgh12345678', want: 'sent Bearer <redacted>' },
    { name: 'a password in a URL', text: 'at https://user:secret@host/path', want: 'at https://<redacted>@host/path' },
    { name: 'a private key', text: '-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----', want: '<redacted>' },
  ])('credentials are removed even if they are not known: $name', ({ text, want }) => {
    expect(new Redactor().redact(text)).toContain(want);
  });

  test('text that contains no credentials is unchanged', () => {
    const redactor = new Redactor();
    redactor.remember(`Bearer ${opaque}`);
    const text = 'services is forbidden: User "system:serviceaccount:kube-system:sluice" cannot list resource "services"';
    expect(redactor.redact(text)).toBe(text);
  });

  const refusals: { name: string; fault: (text: string) => Fault }[] = [
    {
      name: 'a Status',
      fault: (message) => ({ body: JSON.stringify({ kind: 'Status', code: 401, message }), ...{ code: 401, message } }) as unknown as Fault,
    },
    { name: 'an error event', fault: (message) => ({ body: `${JSON.stringify({ type: 'ERROR', object: { code: 500, message } })}\n` }) },
    { name: 'an event type', fault: (type) => ({ body: `${JSON.stringify({ type, object: {} })}\n` }) },
    {
      name: 'a value of an object',
      fault: (clusterIP) => ({ body: eventOf(JSON.stringify({ metadata: { name: 'x', resourceVersion: '9' }, spec: { clusterIP } })) }),
    },
    {
      name: 'a resourceVersion',
      fault: (resourceVersion) => ({ body: eventOf(JSON.stringify({ metadata: { name: 'x', resourceVersion } })) }),
    },
  ];

  test.for(refusals)('credentials never leave the source: $name', async ({ fault }) => {
    const world = await startKubernetes(oneOfEach);
    world.client.redactor.remember(`Bearer ${opaque}`);
    world.server.fault = ({ collection }) => (collection.kind === 'Service' ? fault(`\u001b[31m${opaque}`) : undefined);
    world.server.cut();
    await world.advance(20_000);
    const seen = JSON.stringify([world.log, world.source.problems()]);
    expect(world.messages.length).toBeGreaterThan(0);
    expect(seen).not.toContain(opaque.slice(0, 12));
    expect([...world.log, ...world.messages].join('')).not.toContain('\u001b');
  });
});
