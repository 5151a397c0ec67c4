// SPDX-License-Identifier: Apache-2.0
// Following a healthy API server: what is asked of it, in which words, and what becomes of its answers in the tables.
import { describe, expect, test } from 'vitest';
import { kindNames } from '../../../daemon/source/kinds.ts';
import { tableOf } from '../../../daemon/source/tables.ts';
import { internal } from '../../support/double/statuses.ts';
import { node, oneOfEach, service, serviceCIDR, slice, startKubernetes } from './kubernetes-fixture.ts';

const many = (count: number) =>
  Array.from({ length: count }, (_, i) => service(`s${String(i).padStart(4, '0')}`, `10.96.${i >> 8}.${i & 255}`));

describe('the first list', () => {
  test('is a watch from the beginning, where the server can do that', async () => {
    const world = await startKubernetes(oneOfEach);
    world.expectEqual();
    expect(world.services).toEqual(['default/web']);
    expect(world.asked()).toEqual([
      'watch services initially',
      'watch endpointslices initially',
      'watch nodes initially',
      'watch servicecidrs initially',
    ]);
    expect([world.source.isComplete, world.log]).toEqual([true, ['complete']]);
    expect(kindNames.every((kind) => tableOf(world.tables, kind).initialized)).toBe(true);
  });

  test('is asked for in these words', async () => {
    const world = await startKubernetes();
    const [services, , nodes] = world.server.asked.map(({ path }) =>
      decodeURIComponent(path).replace(/timeoutSeconds=\d+/, 'timeoutSeconds=N'),
    );
    const rest = 'watch=1&allowWatchBookmarks=true&timeoutSeconds=N&sendInitialEvents=true&resourceVersionMatch=NotOlderThan';
    expect(services).toBe(
      `/api/v1/services?labelSelector=!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name&${rest}`,
    );
    expect(nodes).toBe(`/api/v1/nodes?fieldSelector=metadata.name=node-1&${rest}`);
  });

  test('is a list in pages where it cannot, which is asked again each time', async () => {
    const world = await startKubernetes([...oneOfEach, ...many(1200)], ({ server }) => (server.hasStreamingLists = false));
    world.expectEqual();
    const position = world.server.store.revision;
    const pages = ['list services', 'list services continued', 'list services continued'];
    expect(world.asked('Service')).toEqual(['watch services initially', ...pages, `watch services from ${position}`]);
    await world.source.rescan();
    await world.turn();
    // It may have learnt it by now.
    expect(world.asked('Service')).toEqual(['watch services initially', ...pages, `watch services from ${position}`]);
    expect(world.withdrawn).toEqual([]);
  });

  test.for([
    { name: 'agrees and says nothing', fault: { stallAfter: 0 } },
    { name: 'agrees and ends', fault: { body: '' } },
    { name: 'fails', fault: internal },
    { name: 'refuses in words of its own', fault: { ...internal, code: 400 } },
  ])('is a list where the server $name when it is asked for a watch from the beginning', async ({ fault }) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => {
      server.fault = ({ query }) => (query.has('sendInitialEvents') ? fault : undefined);
    });
    await world.advance(15_000);
    world.expectEqual();
    expect([world.source.isComplete, world.messages]).toEqual([true, []]);
  });

  test('that is empty is a list all the same', async () => {
    for (const hasStreamingLists of [true, false]) {
      const world = await startKubernetes([], ({ server }) => (server.hasStreamingLists = hasStreamingLists));
      expect([world.source.isComplete, world.log, world.revision]).toEqual([true, ['complete'], 0]);
    }
  });

  test.for([1, 7, 64])('arrives in pieces of %i bytes', async (pieceBytes) => {
    for (const hasStreamingLists of [true, false]) {
      const world = await startKubernetes(
        [...oneOfEach, service('später', '10.96.0.9', { annotations: { a: '"}],{é\\"' } })],
        ({ server }) => Object.assign(server, { pieceBytes, hasStreamingLists }),
      );
      // Names are ASCII: this one is refused, and only this one.
      expect(world.services).toEqual(['default/web']);
      world.expectEqual();
    }
  });
});

describe('what changes', () => {
  test('comes by the watch: added, changed, deleted, and selected no more', async () => {
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
    expect(world.asked()).toHaveLength(4);
  });

  test('to the same is no change', async () => {
    const world = await startKubernetes(oneOfEach);
    const { revision } = world;
    world.server.put(service('web'), slice('web-1', 'web'), node());
    await world.source.rescan();
    await world.turn();
    expect(world.revision).toBe(revision);
  });

  test('to what is no service of ours withdraws the row', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put({ ...service('web'), spec: { type: 'ExternalName', externalName: 'example.org' } });
    await world.turn();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([[], true, []]);
  });
});

describe('an object that cannot be used', () => {
  const broken = { ...service('web'), spec: { clusterIP: '10.96.0.1', ports: [{ port: 70_000 }] } };
  const message = 'Service default/web spec.ports[0].port: must be 1..65535, is 70000';

  test('keeps its last good row, and the source complete', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put(broken);
    await world.turn();
    expect([world.services, world.source.isComplete, world.messages]).toEqual([['default/web'], true, [message]]);
    await world.source.rescan();
    await world.turn();
    expect([world.services, world.source.isComplete, world.withdrawn]).toEqual([['default/web'], true, []]);
    world.server.put(service('web', '10.96.0.2'));
    await world.turn();
    expect(world.log).toEqual(['complete', `+ ${message}`, `- ${message}`]);
    world.expectEqual();
  });

  test('of which there never was a row keeps the source from being complete until it is gone or good', async () => {
    const world = await startKubernetes([broken, service('other', '10.96.0.2')]);
    expect([world.services, world.source.isComplete, world.log]).toEqual([['default/other'], false, [`+ ${message}`]]);
    expect(world.tables.services.initialized).toBe(true);
    world.server.store.delete('Service', 'default/web');
    await world.turn();
    expect([world.source.isComplete, world.log]).toEqual([true, [`+ ${message}`, `- ${message}`, 'complete']]);
    world.server.put({ ...broken, metadata: { ...broken.metadata, name: 'third' } });
    await world.turn();
    expect(world.source.isComplete).toBe(false);
    world.server.put(service('third', '10.96.0.3'));
    await world.turn();
    expect([world.source.isComplete, world.log.filter((line) => line === 'complete')]).toEqual([true, ['complete', 'complete']]);
  });

  test('that is good at last is told to those who follow the table before the source is complete', async () => {
    const world = await startKubernetes([broken, node()]);
    world.tables.services.onChange(() => world.log.push(`the table has ${world.services.join()}`));
    // The Node's event has the source look at itself in this turn, ahead of the table.
    world.server.put(node('node-1', 'b'), service('web'));
    await world.turn();
    expect(world.log).toEqual([`+ ${message}`, `- ${message}`, 'the table has default/web', 'complete']);
  });

  test('that goes while nobody watches is forgotten by the next list', async () => {
    const world = await startKubernetes([broken]);
    world.server.hold();
    world.server.store.delete('Service', 'default/web');
    world.server.release(() => []);
    await world.source.rescan();
    await world.turn();
    expect([world.source.isComplete, world.messages]).toEqual([true, []]);
  });
});

describe('a long life', () => {
  test('each watch is asked to end, and goes on where it was', async () => {
    const world = await startKubernetes(oneOfEach);
    world.asked();
    await world.advance(3_600_000);
    const asked = world.asked('Service');
    expect(asked.length).toBeGreaterThanOrEqual(5);
    expect(asked.length).toBeLessThanOrEqual(12);
    expect(new Set(asked)).toEqual(new Set([`watch services from ${world.server.store.revision}`]));
    expect(world.log).toEqual(['complete']);
  });

  test('bookmarks carry a quiet watch over a compaction', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.put(...many(10));
    await world.advance(61_000);
    world.server.store.compact();
    world.asked();
    world.server.end();
    await world.advance(1000);
    // Without a bookmark the nodes would be listed again.
    expect(world.asked('Node')).toEqual([`watch nodes from ${world.server.store.revision}`]);
  });

  test('stop() cancels what is under way, and nothing is written or asked any more', async () => {
    const world = await startKubernetes(oneOfEach);
    world.asked();
    await world.source.stop();
    expect([world.server.watching, world.client.isClosed, world.clock.nextTimer]).toEqual([0, true, undefined]);
    world.server.put(service('new', '10.96.0.2'));
    await world.advance(600_000);
    expect([world.services, world.asked()]).toEqual([['default/web'], []]);
  });

  test('stop() just when the last list has come: nobody is told any more', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => server.fail('hang'));
    world.server.serve();
    while (!world.source.isComplete) await Promise.resolve();
    await world.source.stop();
    await world.turn();
    expect(world.log).toEqual([]);
  });

  test('stop() in the middle of waiting and of a request that hangs', async () => {
    for (const fault of ['refuse', 'hang'] as const) {
      const world = await startKubernetes(oneOfEach);
      world.server.fail(fault);
      world.server.cut();
      await world.advance(12_345);
      await world.source.stop();
      expect([world.clock.nextTimer, world.services, world.withdrawn]).toEqual([undefined, ['default/web'], []]);
    }
  });
});

describe('rescan', () => {
  test('lists everything again, at once, though a retry is far away', async () => {
    const world = await startKubernetes(oneOfEach, ({ server }) => server.unknown.add('ServiceCIDR'));
    world.asked();
    await world.source.rescan();
    await world.turn();
    expect(world.asked().toSorted()).toEqual([
      'watch endpointslices initially',
      'watch nodes initially',
      'watch servicecidrs initially',
      'watch services initially',
    ]);
    expect(world.withdrawn).toEqual([]);
  });

  test('while the server is away withdraws nothing, and lists when it is back', async () => {
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

  test('in the middle of a list begins it again', async () => {
    const world = await startKubernetes(many(1200), ({ server }) => {
      server.hasStreamingLists = false;
      server.failNext('hang', ({ query }) => query.has('continue'));
    });
    expect([world.source.isComplete, world.services.length]).toEqual([false, 500]);
    await world.source.rescan();
    await world.turn();
    world.expectEqual();
    expect(world.asked('Service').filter((line) => line === 'list services')).toHaveLength(2);
  });
});
