// SPDX-License-Identifier: Apache-2.0
// What the API server does not allow: each sentence names the verb, the resource and what to do, appears once, goes when it
// is no longer true, and what is served stays.
import { describe, expect, test } from 'vitest';
import { CredentialError } from '../../../daemon/source/kubernetes/api-client.ts';
import { user } from '../../support/double/statuses.ts';
import { type KubernetesWorld, oneOfEach, service, startKubernetes } from './kubernetes-fixture.ts';

const allows: { missing: string; name: string; streaming: boolean; says: string }[] = [
  { missing: 'watch services', name: 'services', streaming: true, says: 'watch' },
  { missing: 'watch services', name: 'services', streaming: false, says: 'watch' },
  { missing: 'list services', name: 'services', streaming: false, says: 'list' },
  { missing: 'watch endpointslices', name: 'endpointslices.discovery.k8s.io', streaming: true, says: 'watch' },
  { missing: 'list endpointslices', name: 'endpointslices.discovery.k8s.io', streaming: false, says: 'list' },
  { missing: 'list nodes', name: 'nodes', streaming: false, says: 'list' },
  { missing: 'watch servicecidrs', name: 'servicecidrs.networking.k8s.io', streaming: true, says: 'watch' },
];

describe('403: the ClusterRole lacks a verb', () => {
  const sentence = (name: string, verb: string): RegExp => {
    const [resource = '', ...group] = name.split('.');
    return new RegExp(
      `^cannot ${verb} ${name}: the API server forbids it: give the ClusterRole the verb "${verb}" on the resource "${name}" ` +
        `\\(403 ${name} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${group.join('.')}" at the cluster scope\\)$`,
    );
  };

  test.for(allows)('$missing, from the start (streaming lists: $streaming)', async ({ missing, name, streaming, says }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => {
      server.hasStreamingLists = streaming;
      server.forbidden.add(missing);
    });
    await world.advance(60_000);
    expect(world.messages).toEqual([expect.stringMatching(sentence(name, says))]);
    expect(world.log.filter((line) => line !== 'complete')).toEqual([`+ ${world.messages[0]}`]);
    // Who must not watch may list: what there was at the start is served.
    expect(world.source.isComplete).toBe(says === 'watch');
    if (says === 'watch') world.expectEqual();
    world.server.forbidden.clear();
    await world.advance(5000);
    world.expectEqual();
    expect([world.messages, world.source.isComplete, world.log.at(-1)]).toEqual([[], true, expect.stringMatching(/^complete$|^- cannot/)]);
  });

  test.for(allows)('$missing, taken away in the middle (streaming lists: $streaming)', async ({ missing, name, streaming, says }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => void (server.hasStreamingLists = streaming));
    const { revision } = world;
    world.server.forbidden.add(missing);
    await world.source.rescan();
    await world.advance(600_000);
    expect(world.messages).toEqual([expect.stringMatching(sentence(name, says))]);
    expect([world.revision, world.withdrawn, world.source.isComplete, world.services]).toEqual([revision, [], true, ['default/web']]);
    world.server.forbidden.clear();
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(5000);
    world.expectEqual();
    expect(world.messages).toEqual([]);
  });
});

test('403: without watch, what changes is found by a list once a minute', async () => {
  const world = await startKubernetes(
    [...oneOfEach, service('old', '10.96.0.9')],
    ({ server }) => void server.forbidden.add('watch services'),
  );
  await world.advance(10_000);
  world.expectEqual();
  world.asked();
  world.server.put(service('new', '10.96.0.2'));
  world.server.store.delete('Service', 'default/old');
  await world.advance(3_600_000);
  world.expectEqual();
  expect(world.withdrawn).toEqual(['default/old']);
  const lists = world.asked('Service').filter((line) => line.startsWith('list'));
  expect(lists.length).toBeGreaterThan(50);
  expect(lists.length).toBeLessThanOrEqual(60);
  expect(world.log.filter((line) => line !== 'complete')).toHaveLength(1);
});

test('403: neither verb is there from the start: one announcement, and nothing is known', async () => {
  const world = await startKubernetes(oneOfEach, ({ server }) => void server.forbidden.add('watch services').add('list services'));
  await world.advance(60_000);
  expect(world.messages).toEqual([expect.stringMatching(/^cannot (list|watch) services: .* the verb "(list|watch)"/)]);
  expect([world.log.length, world.source.isComplete, world.services]).toEqual([1, false, []]);
  world.server.forbidden.clear();
  await world.advance(5000);
  world.expectEqual();
  expect([world.messages, world.source.isComplete]).toEqual([[], true]);
});

describe('401: the credentials are not accepted', () => {
  const sentence = 'cannot watch services: the API server does not accept the token in /token, which may have expired (401 Unauthorized)';

  test('a token that expires and is rotated: one sentence for each resource, then none; serving goes on', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.isTokenGood = false;
    world.server.cut();
    await world.advance(120_000);
    expect(world.messages).toHaveLength(4);
    expect(world.messages).toContain(sentence);
    expect([world.services, world.withdrawn, world.source.isComplete]).toEqual([['default/web'], [], true]);
    expect(world.log.filter((line) => line === `+ ${sentence}`)).toHaveLength(1);
    world.server.isTokenGood = true;
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(5000);
    world.expectEqual();
    expect([world.messages, world.log.filter((line) => line === `- ${sentence}`).length]).toEqual([[], 1]);
  });

  test('a credential that cannot be had at all', async () => {
    const world = await startKubernetes(oneOfEach);
    const get = world.client.get.bind(world.client);
    world.client.get = () => Promise.reject(new CredentialError('/token cannot be read: ENOENT'));
    world.server.cut();
    await world.advance(60_000);
    expect(world.messages).toContain('the API server cannot be followed: /token cannot be read: ENOENT');
    expect([world.services, world.withdrawn]).toEqual([['default/web'], []]);
    world.client.get = get;
    await world.advance(2000);
    expect(world.messages).toEqual([]);
  });
});

describe('404: a server that is too old for ServiceCIDR', () => {
  const old = ({ server }: KubernetesWorld): void => void server.unknown.add('ServiceCIDR');

  test('has none: the source is complete, and asks again every few minutes', async () => {
    const world = await startKubernetes(oneOfEach, old);
    expect([world.source.isComplete, world.messages, world.log]).toEqual([true, [], ['complete']]);
    expect([world.tables.serviceCIDRs.initialized, world.tables.serviceCIDRs.size]).toEqual([true, 0]);
    world.asked();
    await world.advance(3_600_000);
    const asked = world.asked('ServiceCIDR').length;
    expect(asked).toBeGreaterThanOrEqual(10);
    expect(asked).toBeLessThanOrEqual(30);
    world.server.unknown.clear();
    await world.advance(300_000);
    world.expectEqual();
    expect(world.tables.serviceCIDRs.size).toBe(1);
  });

  test('an outage leaves no problem behind', async () => {
    const world = await startKubernetes(oneOfEach, old);
    world.server.fail('refuse');
    await world.advance(600_000);
    expect(world.messages).toHaveLength(1);
    world.server.serve();
    await world.advance(2000);
    expect(world.messages).toEqual([]);
  });

  test('a server that is made old keeps the ranges that were known', async () => {
    const world = await startKubernetes(oneOfEach);
    old(world);
    world.server.cut();
    await world.advance(600_000);
    expect([world.tables.serviceCIDRs.size, world.withdrawn, world.messages]).toEqual([1, [], []]);
  });

  test('of a resource that every server has is a problem', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => void server.unknown.add('EndpointSlice'));
    expect(world.messages).toEqual([
      'cannot watch endpointslices.discovery.k8s.io: the API server refuses (404 the server could not find the requested resource)',
    ]);
    expect(world.source.isComplete).toBe(false);
  });
});
