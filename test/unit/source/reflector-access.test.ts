// SPDX-License-Identifier: Apache-2.0
// Requests that the API server does not allow. Each causes a problem that names the verb, the resource and the remedy. The problem is
// logged once and is resolved when the request succeeds. Until then the rows do not change.
import { describe, expect, test } from 'vitest';
import { CredentialError } from '../../../daemon/source/kubernetes/api-client.ts';
import { kindNames } from '../../../daemon/source/kinds.ts';
import { user } from '../../support/double/statuses.ts';
import { type KubernetesWorld, oneOfEach, service, startKubernetes } from './kubernetes-fixture.ts';

const cases: { missing: string; name: string; streaming: boolean; failing: string }[] = [
  { missing: 'watch services', name: 'services', streaming: true, failing: 'watch' },
  { missing: 'watch services', name: 'services', streaming: false, failing: 'watch' },
  { missing: 'list services', name: 'services', streaming: false, failing: 'list' },
  { missing: 'watch endpointslices', name: 'endpointslices.discovery.k8s.io', streaming: true, failing: 'watch' },
  { missing: 'list endpointslices', name: 'endpointslices.discovery.k8s.io', streaming: false, failing: 'list' },
  { missing: 'list nodes', name: 'nodes', streaming: false, failing: 'list' },
  { missing: 'watch servicecidrs', name: 'servicecidrs.networking.k8s.io', streaming: true, failing: 'watch' },
];

describe('403: the ClusterRole lacks a verb', () => {
  const messageOf = (name: string, verb: string): RegExp => {
    const [resource = '', ...group] = name.split('.');
    return new RegExp(
      `^cannot ${verb} ${name}: the ClusterRole must grant the verb "${verb}" on the resource "${name}" ` +
        `\\(403 ${name} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${group.join('.')}" at the cluster scope\\)$`,
    );
  };

  test.for(cases)(
    'the right to $missing is missing from the start (streaming lists: $streaming)',
    async ({ missing, name, streaming, failing }) => {
      const world = await startKubernetes(oneOfEach, ({ server }) => {
        server.hasStreamingLists = streaming;
        server.forbidden.add(missing);
      });
      await world.advance(60_000);
      expect(world.messages).toEqual([expect.stringMatching(messageOf(name, failing))]);
      expect(world.log.filter((line) => line !== 'complete')).toEqual([`+ ${world.messages[0]}`]);
      // The first list is used even if the right to watch is missing.
      expect(world.source.isComplete).toBe(failing === 'watch');
      if (failing === 'watch') world.expectEqual();
      world.server.forbidden.clear();
      await world.advance(5000);
      world.expectEqual();
      expect([world.messages, world.source.isComplete, world.log.at(-1)]).toEqual([
        [],
        true,
        expect.stringMatching(/^complete$|^- cannot/),
      ]);
    },
  );

  test.for(cases)('the right to $missing is revoked later (streaming lists: $streaming)', async ({ missing, name, streaming, failing }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => void (server.hasStreamingLists = streaming));
    const { revision } = world;
    world.server.forbidden.add(missing);
    await world.source.rescan();
    await world.advance(600_000);
    expect(world.messages).toEqual([expect.stringMatching(messageOf(name, failing))]);
    expect([world.revision, world.deleted, world.source.isComplete, world.services]).toEqual([revision, [], true, ['default/web']]);
    world.server.forbidden.clear();
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(5000);
    world.expectEqual();
    expect(world.messages).toEqual([]);
  });
});

test('without the right to watch, a list once a minute finds the changes', async () => {
  const world = await startKubernetes(
    [...oneOfEach, service('old', '10.96.0.9')],
    ({ server }) => void server.forbidden.add('watch services'),
  );
  await world.advance(10_000);
  world.expectEqual();
  world.requests();
  world.server.put(service('new', '10.96.0.2'));
  world.server.store.delete('Service', 'default/old');
  await world.advance(3_600_000);
  world.expectEqual();
  expect(world.deleted).toEqual(['default/old']);
  const lists = world.requests('Service').filter((line) => line.startsWith('list'));
  expect(lists.length).toBeGreaterThan(50);
  expect(lists.length).toBeLessThanOrEqual(60);
  expect(world.log.filter((line) => line !== 'complete')).toHaveLength(1);
});

test('without the rights to list and watch, one problem is logged and the source is incomplete', async () => {
  const world = await startKubernetes(oneOfEach, ({ server }) => void server.forbidden.add('watch services').add('list services'));
  await world.advance(60_000);
  expect(world.messages).toEqual([expect.stringMatching(/^cannot (list|watch) services: .* the verb "(list|watch)"/)]);
  expect([world.log.length, world.source.isComplete, world.services]).toEqual([1, false, []]);
  world.server.forbidden.clear();
  await world.advance(5000);
  world.expectEqual();
  expect([world.messages, world.source.isComplete]).toEqual([[], true]);
});

describe('401: the API server does not accept the credentials', () => {
  const message = 'cannot watch services: the API server does not accept the token in /token, which may have expired (401 Unauthorized)';

  test('an expired token causes one problem per resource until the token is rotated, and rows stay', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.acceptsToken = false;
    world.server.cut();
    await world.advance(120_000);
    expect(world.messages).toHaveLength(kindNames.length);
    expect(world.messages).toContain(message);
    expect([world.services, world.deleted, world.source.isComplete]).toEqual([['default/web'], [], true]);
    expect(world.log.filter((line) => line === `+ ${message}`)).toHaveLength(1);
    world.server.acceptsToken = true;
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(5000);
    world.expectEqual();
    expect([world.messages, world.log.filter((line) => line === `- ${message}`).length]).toEqual([[], 1]);
  });

  test('a credential that cannot be read is one problem, and rows stay', async () => {
    const world = await startKubernetes(oneOfEach);
    const get = world.client.get.bind(world.client);
    world.client.get = () => Promise.reject(new CredentialError('cannot read /token: ENOENT'));
    world.server.cut();
    await world.advance(60_000);
    expect(world.messages).toContain('cannot watch the API server: cannot read /token: ENOENT');
    expect([world.services, world.deleted]).toEqual([['default/web'], []]);
    world.client.get = get;
    await world.advance(2000);
    expect(world.messages).toEqual([]);
  });
});

describe('404: an API server without ServiceCIDR', () => {
  const old = ({ server }: KubernetesWorld): void => void server.missingKinds.add('ServiceCIDR');

  test('the source is complete without ServiceCIDRs, and asks for them again every few minutes', async () => {
    const world = await startKubernetes(oneOfEach, old);
    expect([world.source.isComplete, world.messages, world.log]).toEqual([true, [], ['complete']]);
    expect([world.tables.serviceCIDRs.initialized, world.tables.serviceCIDRs.size]).toEqual([true, 0]);
    world.requests();
    await world.advance(3_600_000);
    const tries = world.requests('ServiceCIDR').length;
    expect(tries).toBeGreaterThanOrEqual(10);
    expect(tries).toBeLessThanOrEqual(30);
    world.server.missingKinds.clear();
    await world.advance(300_000);
    world.expectEqual();
    expect(world.tables.serviceCIDRs.size).toBe(1);
  });

  test('no problem remains after an outage', async () => {
    const world = await startKubernetes(oneOfEach, old);
    world.server.fail('refuse');
    await world.advance(600_000);
    expect(world.messages).toHaveLength(1);
    world.server.serve();
    await world.advance(2000);
    expect(world.messages).toEqual([]);
  });

  test('rows of a resource stay when the server loses the resource', async () => {
    const world = await startKubernetes(oneOfEach);
    old(world);
    world.server.cut();
    await world.advance(600_000);
    expect([world.tables.serviceCIDRs.size, world.deleted, world.messages]).toEqual([1, [], []]);
  });

  test('404 for a resource that every server has is a problem', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => void server.missingKinds.add('EndpointSlice'));
    expect(world.messages).toEqual([
      'cannot watch endpointslices.discovery.k8s.io: the API server refused the request (404 the server could not find the requested resource)',
    ]);
    expect(world.source.isComplete).toBe(false);
  });
});
