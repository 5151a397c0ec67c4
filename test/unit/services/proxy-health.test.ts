// SPDX-License-Identifier: Apache-2.0
// /healthz and /livez of the proxy health server: the statements of test/README.md, 12. The tests send HTTP requests to a server
// on an ephemeral port of the loopback. The clock is a fake.
import { afterEach, describe, expect, test } from 'vitest';

import { HttpServers } from '../../../daemon/base/http-servers.ts';
import type { ListenerEvent } from '../../../daemon/services/health/listeners.ts';
import { NodeEligibility } from '../../../daemon/services/health/node-eligibility.ts';
import { type ProbePath, ProxyHealthServer } from '../../../daemon/services/health/proxy-health.ts';
import { SyncHealth } from '../../../daemon/services/health/sync-health.ts';
import type { Node } from '../../../daemon/model/node.ts';
import { Table } from '../../../daemon/table/table.ts';
import { nodeRow } from '../../support/builders.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';
import { ask, occupy, outcome, type Reply } from './health-fixture.ts';

const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const task of undo.splice(0).toReversed()) await task();
});

const epoch = Date.UTC(2026, 10, 23, 4, 5, 6);
const at = (seconds: number): string => new Date(epoch + seconds * 1000).toISOString();

/** A server on an ephemeral port. The wall time begins at `epoch` and advances with the fake clock. */
async function world(listen: { address?: string; port?: number } = {}) {
  const clock = new FakeClock();
  const began = clock.now();
  const wallNow = (): number => epoch + clock.now() - began;
  const scheduler = new ManualScheduler();
  const nodes = new Table<string, Node>('nodes', scheduler.schedule);
  const node = new NodeEligibility(nodes, 'node-a');
  node.start();
  const sync = new SyncHealth({ wallNow });
  const responses: string[] = [];
  const events: ListenerEvent[] = [];
  const server = new ProxyHealthServer({
    ...{ at: { address: '0.0.0.0', port: 0, ...listen }, sync, node, clock, wallNow, servers: new HttpServers() },
    onEvent: (event) => events.push(event),
    onResponse: (path: ProbePath, status) => responses.push(`${path} ${status}`),
  });
  undo.push(() => server.stop());
  await server.start();
  const get = (path: string, method = 'GET'): Promise<Reply> => ask({ port: server.port ?? 0, path, method });
  const statuses = async (): Promise<number[]> => [(await get('/healthz')).status, (await get('/livez')).status];
  const body = async (path: string): Promise<unknown> => JSON.parse((await get(path)).body) as unknown;
  const put = (row: Node | undefined): void => {
    if (row === undefined) nodes.delete('node-a');
    else nodes.upsert('node-a', row);
    scheduler.flush();
  };
  const queue = (family: 'IPv4' | 'IPv6'): void => sync.queued(family, clock.now());
  const done = (family: 'IPv4' | 'IPv6'): void => sync.synced(family, clock.now());
  return { clock, put, queue, done, server, get, statuses, body, responses, events };
}

describe('12: a family is unhealthy if a change has waited for a successful sync for at least the health timeout', () => {
  test('a family is healthy before its first sync, however long that takes', async () => {
    const { queue, clock, statuses } = await world();
    queue('IPv4');
    clock.advance(3_600_000);
    expect(await statuses()).toEqual([200, 200]);
  });

  test('a family without a waiting change is healthy, even if the last sync was long ago', async () => {
    const { done, clock, statuses } = await world();
    done('IPv4');
    clock.advance(86_400_000);
    expect(await statuses()).toEqual([200, 200]);
  });

  test('the timeout is 60 s by default, from the oldest change; the next successful sync makes the family healthy', async () => {
    const { queue, done, clock, statuses } = await world();
    done('IPv4');
    queue('IPv4');
    clock.advance(30_000);
    queue('IPv4');
    clock.advance(29_999);
    expect(await statuses()).toEqual([200, 200]);
    clock.advance(1);
    expect(await statuses()).toEqual([503, 503]);
    done('IPv4');
    expect(await statuses()).toEqual([200, 200]);
  });

  test('all families must be healthy; a sync of one family does not make the other healthy', async () => {
    const { queue, done, clock, statuses } = await world();
    done('IPv4');
    done('IPv6');
    queue('IPv6');
    clock.advance(60_000);
    done('IPv4');
    expect(await statuses()).toEqual([503, 503]);
  });

  test('a change that was queued after the start of the sync is still waiting', () => {
    const sync = new SyncHealth({ timeoutMs: 100, wallNow: () => 0 });
    sync.synced('IPv4', 1);
    sync.queued('IPv4', 20);
    sync.synced('IPv4', 10);
    expect([sync.isHealthy(119), sync.isHealthy(120)]).toEqual([true, false]);
  });

  test('a step of the wall clock does not make a family unhealthy', () => {
    let wall = epoch;
    const sync = new SyncHealth({ wallNow: () => wall });
    sync.synced('IPv4', 0);
    sync.queued('IPv4', 10);
    wall += 86_400_000;
    expect(sync.isHealthy(20)).toBe(true);
  });
});

describe('12: /healthz requires an eligible node, and the Node object determines whether the node is eligible', () => {
  test('a node is not eligible while its Node has a deletionTimestamp or the taint ToBeDeletedByClusterAutoscaler', async () => {
    const { put, statuses } = await world();
    put(nodeRow('node-a'));
    expect(await statuses()).toEqual([200, 200]);
    put(nodeRow('node-a', { isLeaving: true }));
    expect(await statuses()).toEqual([503, 200]);
    put(nodeRow('node-a'));
    expect(await statuses()).toEqual([200, 200]);
  });

  test('a node that never had a Node object is eligible; a node whose Node was deleted is not', async () => {
    const { put, statuses } = await world();
    expect(await statuses()).toEqual([200, 200]);
    put(nodeRow('node-a'));
    put(undefined);
    expect(await statuses()).toEqual([503, 200]);
    put(nodeRow('node-a'));
    expect(await statuses()).toEqual([200, 200]);
  });
});

describe('12: headers and bodies', () => {
  test('with status 200, lastUpdated in the body of /healthz is the current time', async () => {
    const { get, done, clock } = await world();
    clock.advance(1000);
    done('IPv4');
    clock.advance(1000);
    done('IPv6');
    clock.advance(8000);
    const { body, headers } = await get('/healthz');
    const status = `{"IPv4":{"lastUpdated":"${at(1)}","healthy":true},"IPv6":{"lastUpdated":"${at(2)}","healthy":true}}`;
    expect(body).toBe(`{"lastUpdated":"${at(10)}","currentTime":"${at(10)}","nodeEligible":true,"healthy":true,"status":${status}}`);
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'x-content-type-options': 'nosniff' });
  });

  test('the body of /livez has no nodeEligible', async () => {
    const { get, done, put } = await world();
    done('IPv4');
    put(nodeRow('node-a', { isLeaving: true }));
    const { body, headers } = await get('/livez');
    expect(body).toBe(
      `{"lastUpdated":"${at(0)}","currentTime":"${at(0)}","healthy":true,"status":{"IPv4":{"lastUpdated":"${at(0)}","healthy":true}}}`,
    );
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'x-content-type-options': 'nosniff' });
  });

  test('with status 503, lastUpdated is the time of the last successful sync, and the field healthy depends only on the families', async () => {
    const { body, done, queue, put, clock } = await world();
    done('IPv4');
    clock.advance(1000);
    done('IPv6');
    put(nodeRow('node-a', { isLeaving: true }));
    clock.advance(1000);
    expect(await body('/healthz')).toMatchObject({ lastUpdated: at(1), currentTime: at(2), nodeEligible: false, healthy: true });
    queue('IPv4');
    clock.advance(60_000);
    expect(await body('/livez')).toEqual({
      ...{ lastUpdated: at(1), currentTime: at(62), healthy: false },
      status: { IPv4: { lastUpdated: at(0), healthy: false }, IPv6: { lastUpdated: at(1), healthy: true } },
    });
  });

  test('before the first sync the field status is absent, and lastUpdated with status 503 is the zero time', async () => {
    const { body, put } = await world();
    put(nodeRow('node-a', { isLeaving: true }));
    expect(await body('/healthz')).toEqual({
      ...{ lastUpdated: '0001-01-01T00:00:00Z', currentTime: at(0), nodeEligible: false, healthy: true },
    });
  });
});

describe('12: server on healthzBindAddress', () => {
  test('the server serves only the paths /healthz and /livez, with any method and query', async () => {
    const { get, responses } = await world();
    expect((await get('/healthz?timeout=1', 'HEAD')).status).toBe(200);
    expect((await get('/livez', 'POST')).status).toBe(200);
    const other = await get('/metrics');
    expect([other.status, other.headers['content-type']]).toEqual([404, 'application/problem+json']);
    expect(responses).toEqual(['/healthz 200', '/livez 200']);
  });

  test.for(['0.0.0.0', '::'])('the listen address %s means every address of both families', async (address) => {
    const { server } = await world({ address });
    const port = server.port ?? 0;
    expect([await outcome({ port, path: '/livez' }), await outcome({ port, path: '/livez', host: '::1' })]).toEqual([200, 200]);
  });

  test('a listen address other than 0.0.0.0 and :: means only that address', async () => {
    const { server } = await world({ address: '127.0.0.2' });
    const port = server.port ?? 0;
    expect([await outcome({ port, path: '/livez', host: '127.0.0.2' }), await outcome({ port, path: '/livez' })]).toEqual([
      200,
      'ECONNREFUSED',
    ]);
  });

  test('a port that kube-proxy still uses is reported as a problem and retried after 5 s', async () => {
    const taken = await occupy();
    const { server, clock, events } = await world({ port: taken.port });
    const message = `the proxy health server cannot listen on port ${taken.port}: the port is in use by another process or another Service`;
    expect([server.problems(), server.port]).toEqual([[message], undefined]);
    await taken.free();
    clock.advance(5000);
    await server.idle();
    expect([server.problems(), server.port]).toEqual([[], taken.port]);
    expect(events.map(({ kind }) => kind)).toEqual(['failed', 'recovered']);
  });
});
