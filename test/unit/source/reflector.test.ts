// SPDX-License-Identifier: Apache-2.0
// The reflectors with an API server that has no faults: their requests, and the rows that they write from the responses.
import { describe, expect, test } from 'vitest';
import { kindNames } from '../../../daemon/source/kinds.ts';
import { tableOf } from '../../../daemon/source/tables.ts';
import { collections } from '../../support/double/objects.ts';
import { internal } from '../../support/double/statuses.ts';
import { node, oneOfEach, service, serviceCIDR, slice, startKubernetes } from './kubernetes-fixture.ts';

const many = (count: number) =>
  Array.from({ length: count }, (_, i) => service(`s${String(i).padStart(4, '0')}`, `10.96.${i >> 8}.${i & 255}`));

/** The requests for the first lists of all resources. */
const initialWatches = collections.map(({ resource }) => `watch ${resource} initially`);

describe('the first list', () => {
  test('the first list is a watch with initial events, if the server supports it', async () => {
    const world = await startKubernetes(oneOfEach);
    world.expectEqual();
    expect(world.services).toEqual(['default/web']);
    expect(world.requests()).toEqual(initialWatches);
    expect([world.source.isComplete, world.log]).toEqual([true, ['complete']]);
    expect(kindNames.every((kind) => tableOf(world.tables, kind).initialized)).toBe(true);
  });

  test('the first list has the expected paths and parameters', async () => {
    const world = await startKubernetes();
    const [services, , nodes] = world.server.requests.map(({ path }) =>
      decodeURIComponent(path).replace(/timeoutSeconds=\d+/, 'timeoutSeconds=N'),
    );
    const rest = 'watch=1&allowWatchBookmarks=true&timeoutSeconds=N&sendInitialEvents=true&resourceVersionMatch=NotOlderThan';
    expect(services).toBe(
      `/api/v1/services?labelSelector=!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name&${rest}`,
    );
    expect(nodes).toBe(`/api/v1/nodes?fieldSelector=metadata.name=node-1&${rest}`);
  });

  test('the first list is a list in pages if the server does not support initial events; each list tests the support again', async () => {
    const world = await startKubernetes([...oneOfEach, ...many(1200)], ({ server }) => (server.hasStreamingLists = false));
    world.expectEqual();
    const position = world.server.store.revision;
    const pages = ['list services', 'list services continued', 'list services continued'];
    expect(world.requests('Service')).toEqual(['watch services initially', ...pages, `watch services from ${position}`]);
    await world.source.rescan();
    await world.turn();
    // The second list tries the watch with initial events again, because the server may have been upgraded.
    expect(world.requests('Service')).toEqual(['watch services initially', ...pages, `watch services from ${position}`]);
    expect(world.deleted).toEqual([]);
  });

  test.for([
    { name: 'accepts it and sends nothing', fault: { stallAfter: 0 } },
    { name: 'accepts it and ends it', fault: { body: '' } },
    { name: 'returns an error', fault: internal },
    { name: 'refuses it with an unknown message', fault: { ...internal, code: 400 } },
  ])('the first list is a plain list if the server gets a request for a watch with initial events and $name', async ({ fault }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => {
      server.fault = ({ query }) => (query.has('sendInitialEvents') ? fault : undefined);
    });
    await world.advance(15_000);
    world.expectEqual();
    expect([world.source.isComplete, world.messages]).toEqual([true, []]);
  });

  test('the first list is complete even if it is empty', async () => {
    for (const hasStreamingLists of [true, false]) {
      const world = await startKubernetes([], ({ server }) => (server.hasStreamingLists = hasStreamingLists));
      expect([world.source.isComplete, world.log, world.revision]).toEqual([true, ['complete'], 0]);
    }
  });

  test.for([1, 7, 64])('the first list is decoded from pieces of %i bytes', async (pieceBytes) => {
    for (const hasStreamingLists of [true, false]) {
      const world = await startKubernetes(
        [...oneOfEach, service('später', '10.96.0.9', { annotations: { a: '"}],{é\\"' } })],
        ({ server }) => Object.assign(server, { pieceBytes, hasStreamingLists }),
      );
      // Kubernetes names are ASCII, so the Service "später" is invalid. All other objects are valid.
      expect(world.services).toEqual(['default/web']);
      world.expectEqual();
    }
  });
});

describe('a change', () => {
  test('the watch receives objects that are added, changed, deleted, or no longer selected', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put(
      service('new', '10.96.0.2'),
      service('web', '10.96.0.3'),
      slice('web-1', 'web', ['10.244.1.5']),
      node('node-1', 'b'),
      node('node-2', 'b'),
    );
    await world.turn();
    world.expectEqual();
    expect(world.tables.services.get('default/web')?.clusterIPs).toEqual({ IPv4: '10.96.0.3' });
    world.server.store.delete('Service', 'default/new');
    world.server.put(
      service('web', '10.96.0.3', { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } }),
      serviceCIDR('more', 'fd00::/112'),
    );
    await world.turn();
    world.expectEqual();
    expect(world.services).toEqual([]);
    world.server.put(service('web', '10.96.0.3'));
    await world.turn();
    expect(world.services).toEqual(['default/web']);
    expect(world.requests()).toEqual(initialWatches);
  });

  test('a change to an equal object changes no row', async () => {
    const world = await startKubernetes(oneOfEach);
    const { revision } = world;
    world.server.put(service('web'), slice('web-1', 'web'), node());
    await world.source.rescan();
    await world.turn();
    expect(world.revision).toBe(revision);
  });

  test('a change to a Service that this agent does not serve deletes the row', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put({ ...service('web'), spec: { type: 'ExternalName', externalName: 'example.org' } });
    await world.turn();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([[], true, []]);
  });
});

describe('an invalid object', () => {
  const invalid = { ...service('web'), spec: { clusterIP: '10.96.0.1', ports: [{ port: 70_000 }] } };
  const message = 'Service default/web spec.ports[0].port: must be 1..65535, is 70000';

  test('an invalid object keeps its last valid row, and the source stays complete', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put(invalid);
    await world.turn();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([['default/web'], true, [message]]);
    await world.source.rescan();
    await world.turn();
    expect([world.services, world.source.isComplete, world.deleted]).toEqual([['default/web'], true, []]);
    world.server.put(service('web', '10.96.0.2'));
    await world.turn();
    expect(world.log).toEqual(['complete', `+ ${message}`, `- ${message}`]);
    world.expectEqual();
  });

  test('an invalid object without an earlier row makes the source incomplete until it is deleted or valid', async () => {
    const world = await startKubernetes([invalid, service('other', '10.96.0.2')]);
    expect([world.services, world.source.isComplete, world.log]).toEqual([['default/other'], false, [`+ ${message}`]]);
    expect(world.tables.services.initialized).toBe(true);
    world.server.store.delete('Service', 'default/web');
    await world.turn();
    expect([world.source.isComplete, world.log]).toEqual([true, [`+ ${message}`, `- ${message}`, 'complete']]);
    world.server.put({ ...invalid, metadata: { ...invalid.metadata, name: 'third' } });
    await world.turn();
    expect(world.source.isComplete).toBe(false);
    world.server.put(service('third', '10.96.0.3'));
    await world.turn();
    expect([world.source.isComplete, world.log.filter((line) => line === 'complete')]).toEqual([true, ['complete', 'complete']]);
  });

  test('an object that becomes valid reaches the observers of its table before the source is complete', async () => {
    const world = await startKubernetes([invalid, node()]);
    world.tables.services.onChange(() => world.log.push(`the table has ${world.services.join()}`));
    // Because of the event of the Node, the source computes its completeness in this turn. The table notifies its observers later.
    world.server.put(node('node-1', 'b'), service('web'));
    await world.turn();
    expect(world.log).toEqual([`+ ${message}`, `- ${message}`, 'the table has default/web', 'complete']);
  });

  test('the next list removes an invalid object that was deleted without an event', async () => {
    const world = await startKubernetes([invalid]);
    world.server.holdEvents();
    world.server.store.delete('Service', 'default/web');
    world.server.releaseEvents(() => []);
    await world.source.rescan();
    await world.turn();
    expect([world.source.isComplete, world.messages]).toEqual([true, []]);
  });
});

describe('over a long time', () => {
  test('the next watch continues from the resourceVersion at which the server ended the previous one', async () => {
    const world = await startKubernetes(oneOfEach);
    world.requests();
    await world.advance(3_600_000);
    const requests = world.requests('Service');
    expect(requests.length).toBeGreaterThanOrEqual(5);
    expect(requests.length).toBeLessThanOrEqual(12);
    expect(new Set(requests)).toEqual(new Set([`watch services from ${world.server.store.revision}`]));
    expect(world.log).toEqual(['complete']);
  });

  test('a watch without events survives a compaction because of bookmarks', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put(...many(10));
    await world.advance(61_000);
    world.server.store.compact();
    world.requests();
    world.server.end();
    await world.advance(1000);
    // The watch continues from a bookmark. Without a bookmark, the reflector would list the Nodes again.
    expect(world.requests('Node')).toEqual([`watch nodes from ${world.server.store.revision}`]);
  });

  test('stop() cancels the requests in progress, and afterwards no row is written and no request is sent', async () => {
    const world = await startKubernetes(oneOfEach);
    world.requests();
    await world.source.stop();
    expect([world.server.watchCount, world.client.isClosed, world.clock.nextTimer]).toEqual([0, true, undefined]);
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(600_000);
    expect([world.services, world.requests()]).toEqual([['default/web'], []]);
  });

  test('after stop() the source does not report that it is complete', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => server.fail('hang'));
    world.server.serve();
    while (!world.source.isComplete) await Promise.resolve();
    await world.source.stop();
    await world.turn();
    expect(world.log).toEqual([]);
  });

  test('stop() works during a delay and during a request that never ends', async () => {
    for (const fault of ['refuse', 'hang'] as const) {
      const world = await startKubernetes(oneOfEach);
      world.server.fail(fault);
      world.server.cut();
      await world.advance(12_345);
      await world.source.stop();
      expect([world.clock.nextTimer, world.services, world.deleted]).toEqual([undefined, ['default/web'], []]);
    }
  });
});

describe('rescan', () => {
  test('a rescan lists everything again at once, even if the next retry is minutes away', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => server.missingKinds.add('ServiceCIDR'));
    world.requests();
    await world.source.rescan();
    await world.turn();
    expect(world.requests().toSorted()).toEqual(initialWatches.toSorted());
    expect(world.deleted).toEqual([]);
  });

  test('a rescan deletes nothing while the server is unreachable, and lists when it is reachable again', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fail('refuse');
    await world.source.rescan();
    await world.advance(30_000);
    world.server.store.delete('Service', 'default/web');
    world.server.serve();
    expect([world.services, world.source.isComplete]).toEqual([['default/web'], true]);
    await world.advance(2000);
    world.expectEqual();
    expect(world.services).toEqual([]);
  });

  test('a rescan during a list starts the list again', async () => {
    const world = await startKubernetes(many(1200), ({ server }) => {
      server.hasStreamingLists = false;
      server.failNext('hang', ({ query }) => query.has('continue'));
    });
    expect([world.source.isComplete, world.services.length]).toEqual([false, 500]);
    await world.source.rescan();
    await world.turn();
    world.expectEqual();
    expect(world.requests('Service').filter((line) => line === 'list services')).toHaveLength(2);
  });
});
