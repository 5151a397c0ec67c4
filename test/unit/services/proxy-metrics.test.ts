// SPDX-License-Identifier: Apache-2.0
// kube-proxy's metrics port: the statements of test/README.md, 12.7. The tests send HTTP requests to a server on an ephemeral port of
// the loopback.
import { afterEach, expect, test } from 'vitest';

import { HttpServers } from '../../../daemon/base/http-servers.ts';
import type { MetricsPage } from '../../../daemon/base/metrics.ts';
import { ProxyMetricsServer } from '../../../daemon/services/health/proxy-metrics.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { ask, occupy, outcome } from './health-fixture.ts';

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const task of undo.splice(0).toReversed()) await task();
});

const contentType = 'text/plain; version=0.0.4; charset=utf-8';
const pageOf = (text: string) => (): Promise<MetricsPage> => Promise.resolve({ contentType, body: Buffer.from(text) });

async function world({ address = '127.0.0.1', port = 0, page = pageOf('') } = {}) {
  const clock = new FakeClock();
  const events: string[] = [];
  const at = { address, port };
  const onEvent = ({ kind }: { kind: string }): void => void events.push(kind);
  const server = new ProxyMetricsServer({ at, page, clock, servers: new HttpServers(), onEvent });
  undo.push(() => server.stop());
  await server.start();
  const get = (path: string) => ask({ port: server.port ?? 0, path });
  return { server, clock, events, get };
}

test('/proxyMode returns a mode that kube-proxy does not have, as plain text', async () => {
  const { status, headers, body } = await (await world()).get('/proxyMode');
  expect([status, body]).toEqual([200, 'ebpf']);
  expect(headers).toMatchObject({ 'content-type': 'text/plain; charset=utf-8', 'x-content-type-options': 'nosniff' });
});

test('/healthz is ok while the process responds', async () => {
  const { status, body } = await (await world()).get('/healthz');
  expect([status, body]).toEqual([200, 'ok']);
});

test('/metrics returns the page of the agent with its content type', async () => {
  const { status, headers, body } = await (await world({ page: pageOf('kubeproxy_x 1\n') })).get('/metrics?x=1');
  expect([status, headers['content-type'], body]).toEqual([200, contentType, 'kubeproxy_x 1\n']);
});

test('metrics that cannot be computed cause an error without details, and the other paths still answer', async () => {
  const { get } = await world({ page: () => Promise.reject(new Error('EBADF of map ct4')) });
  const { status, headers, body } = await get('/metrics');
  expect([status, headers['content-type']]).toEqual([500, 'application/problem+json']);
  expect(body).not.toContain('EBADF');
  expect((await get('/proxyMode')).status).toBe(200);
});

test('any other path is answered with 404 and the list of paths that exist', async () => {
  const { status, body } = await (await world()).get('/configz');
  expect([status, JSON.parse(body)]).toMatchObject([404, { detail: '/configz does not exist; use /metrics, /proxyMode or /healthz' }]);
});

test.for(['0.0.0.0', '::'])('the listen address %s means every address of both families', async (address) => {
  const { server } = await world({ address });
  const path = '/healthz';
  const port = server.port ?? 0;
  expect([await outcome({ port, path }), await outcome({ port, path, host: '::1' })]).toEqual([200, 200]);
});

test('a port that kube-proxy still uses is reported as a problem and retried after 5 s', async () => {
  const taken = await occupy();
  const { server, clock, events } = await world({ port: taken.port });
  const message = `the metrics server cannot listen on port ${taken.port} of 127.0.0.1: the port is in use by another process or another Service`;
  expect([server.problems(), server.port]).toEqual([[message], undefined]);
  await taken.free();
  clock.advance(5000);
  await server.idle();
  expect([server.problems(), server.port, events]).toEqual([[], taken.port, ['failed', 'recovered']]);
});
