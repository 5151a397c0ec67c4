// SPDX-License-Identifier: Apache-2.0
// An API server that is unreachable, returns errors, interrupts connections or sends malformed data. In all cases a row is deleted
// only if the server reported that its object is gone. Two seconds after the faults end, the tables match the objects.
import { describe, expect, test } from 'vitest';
import { type Fault } from '../../support/double/api-server.ts';
import { internal, tooMany, unavailable } from '../../support/double/statuses.ts';
import { type KubernetesWorld, node, oneOfEach, service, slice, startKubernetes } from './kubernetes-fixture.ts';

/** Changes objects on the server: an addition, updates and a deletion. Called while the source receives no events. */
function change({ server }: KubernetesWorld): void {
  server.put(service('new', '10.96.0.2'), service('web', '10.96.0.3'), slice('web-1', 'web', ['10.244.1.7']), node('node-1', 'b'));
  server.store.delete('Service', 'default/old');
}

const objects = [...oneOfEach, service('old', '10.96.0.9')];

describe('an outage', () => {
  const outages: { name: string; fault: Fault; isSilent?: boolean }[] = [
    { name: 'connection refused', fault: 'refuse' },
    { name: 'accepted and not answered', fault: 'hang' },
    { name: 'not answered, with watches that stall', fault: 'hang', isSilent: true },
    { name: '500', fault: internal },
    { name: '503', fault: unavailable() },
    { name: '503 with Retry-After', fault: unavailable(1) },
    { name: '429', fault: tooMany() },
    { name: '429 with Retry-After', fault: tooMany(1) },
    { name: 'interrupted before the first byte', fault: { cutAfter: 0 } },
    { name: 'interrupted in the first line', fault: { cutAfter: 20 } },
    { name: 'HTML', fault: { body: '<html>502 Bad Gateway</html>\n' } },
    { name: 'a truncated list', fault: { body: '{"kind":"ServiceList","metadata":{"resourceVersion":"99"},"items":[' } },
    { name: 'an empty body', fault: { body: '' } },
    { name: 'null', fault: { body: 'null\n' } },
    { name: 'a number', fault: { body: '5\n' } },
    { name: 'an event without an object', fault: { body: '{"type":"ADDED"}\n' } },
    { name: 'an event of unknown type', fault: { body: '{"type":"RENAMED","object":{}}\n' } },
    { name: 'an error event', fault: { body: '{"type":"ERROR","object":{"code":500,"message":"too bad"}}\n' } },
    { name: 'an error event without an object', fault: { body: '{"type":"ERROR"}\n' } },
  ];

  for (const hasStreamingLists of [true, false]) {
    const how = hasStreamingLists ? 'streaming' : 'paged';

    test.for(outages)(`an outage of ten minutes: $name, ${how} lists`, async ({ fault, isSilent = false }) => {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { hasStreamingLists }));
      world.requests();
      world.server.fail(fault);
      if (!isSilent) world.server.cut();
      const before = world.revision;
      await world.advance(300_000);
      change(world);
      await world.advance(300_000);
      expect([world.revision, world.services, world.source.isComplete]).toEqual([before, ['default/old', 'default/web'], true]);
      // The source retries often enough to notice the end of the outage, but does not overload the server.
      const tries = world.requests('Service').length;
      expect(tries).toBeGreaterThan(fault !== 'hang' ? 100 : isSilent ? 0 : 40);
      expect(tries).toBeLessThan(1300);
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect([world.deleted, world.messages, world.source.isComplete]).toEqual([['default/old'], [], true]);
    });

    test.for(outages)(`an outage from the start: $name, ${how} lists`, async ({ fault }) => {
      const world = await startKubernetes(objects, ({ server }) => {
        server.hasStreamingLists = hasStreamingLists;
        server.fail(fault);
      });
      await world.advance(60_000);
      expect([world.source.isComplete, world.tables.services.initialized]).toEqual([false, false]);
      // A fault of the connection affects all resources and is one problem. Other faults are one problem per resource.
      if (typeof fault === 'string') expect(world.messages).toHaveLength(1);
      else expect(world.messages.length).toBeGreaterThan(0);
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect([world.deleted, world.messages, world.log.at(-1), world.source.isComplete]).toEqual([[], [], 'complete', true]);
    });
  }

  test('an outage is logged once, even if its reasons change, and its end is logged once', async () => {
    const world = await startKubernetes(objects);
    world.log.length = 0;
    for (const fault of ['refuse', 'hang', 'refuse'] as const) {
      world.server.fail(fault);
      world.server.cut();
      await world.advance(60_000);
    }
    expect(world.messages).toEqual([expect.stringMatching(/^cannot watch the API server: /)]);
    world.server.serve();
    await world.advance(2000);
    expect(world.log).toEqual([
      expect.stringMatching(/^\+ cannot watch the API server: /),
      expect.stringMatching(/^- cannot watch the API server: /),
    ]);
  });

  test('an outage that outlasts the history of the server (410) ends with a list, which deletes rows of objects that are gone', async () => {
    for (const sendsExpiredAs of ['status', 'event'] as const) {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { sendsExpiredAs }));
      const position = world.server.store.revision;
      world.server.fail('refuse');
      await world.advance(600_000);
      change(world);
      world.server.store.compact();
      world.requests();
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect(world.requests('Service')).toEqual([`watch services from ${position}`, 'watch services initially']);
      expect([world.deleted, world.messages]).toEqual([['default/old'], []]);
    }
  });
});

describe('a watch that is interrupted', () => {
  test('a watch that is interrupted a hundred times in the middle of an event continues each time, with no list and no lost event', async () => {
    const world = await startKubernetes(objects);
    world.requests();
    for (let round = 0; round < 100; round += 1) {
      world.server.put(service('web', `10.96.1.${round}`));
      await world.turn();
      world.server.holdEvents();
      world.server.put(service(`s${round}`, `10.96.2.${round}`));
      world.server.releaseEvents((lines) => lines.map((line) => line.slice(0, round)));
      world.server.cut();
      world.server.put(service('old', `10.96.3.${round}`));
      await world.advance(1000);
      world.expectEqual();
    }
    expect(world.requests().filter((line) => line.includes('initially') || line.startsWith('list'))).toEqual([]);
    expect([world.deleted, world.messages]).toEqual([[], []]);
  });

  test('a watch that is interrupted during the initial events starts again, and rows stay', async () => {
    const world = await startKubernetes(objects);
    world.server.failNext({ cutAfter: 300 }, ({ query, collection }) => query.has('sendInitialEvents') && collection.kind === 'Service');
    await world.source.rescan();
    await world.turn();
    expect(world.messages).toEqual(['cannot watch the API server: the connection to http://double was interrupted: read ECONNRESET']);
    await world.advance(1000);
    expect([world.services, world.deleted, world.messages]).toEqual([['default/old', 'default/web'], [], []]);
  });

  test('a watch that the server ends at once, with or without an event, does not cause a busy loop', async () => {
    for (const content of ['', 'bookmark', 'event']) {
      const world = await startKubernetes(objects);
      world.server.fault = ({ query }) => {
        const position = Number(query.get('resourceVersion') ?? 0);
        const metadata = { ...service('web').metadata, resourceVersion: String(position + 1) };
        const type = content === 'event' ? 'MODIFIED' : 'BOOKMARK';
        return { body: content === '' ? '' : `${JSON.stringify({ type, object: { ...service('web'), metadata } })}\n` };
      };
      world.server.end();
      await world.advance(60_000);
      world.requests();
      await world.advance(60_000);
      const tries = world.requests('Service').length;
      expect(tries, content).toBeGreaterThanOrEqual(60);
      expect(tries, content).toBeLessThanOrEqual(120);
      expect(world.deleted).toEqual([]);
    }
  });

  test('a watch that fails with 410 each time does not cause constant lists', async () => {
    for (const sendsExpiredAs of ['status', 'event'] as const) {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { sendsExpiredAs, hasStreamingLists: false }));
      world.server.fail('refuse');
      await world.advance(5000);
      expect(world.messages).toHaveLength(1);
      world.server.fault = ({ verb }) =>
        verb === 'watch' ? { code: 410, reason: 'Expired', message: 'too old resource version' } : undefined;
      world.server.end();
      await world.advance(60_000);
      world.requests();
      await world.advance(60_000);
      expect(world.requests('Service').filter((line) => line === 'list services').length).toBeLessThanOrEqual(30);
      expect([world.deleted, world.messages]).toEqual([[], []]);
    }
  });
});

describe('a watch that stalls while its connection works', () => {
  const minute = 60_000;

  test('a stalled watch is given up when three bookmarks are missing, and continues from its resourceVersion', async () => {
    const world = await startKubernetes(objects);
    await world.advance(1.5 * minute);
    world.requests();
    const { revision } = world.server.store;
    world.server.stallWatches();
    change(world);
    await world.advance(2.8 * minute);
    expect([world.requests(), world.messages, world.services]).toEqual([[], [], ['default/old', 'default/web']]);
    await world.advance(0.2 * minute);
    expect(world.log.slice(-2)).toEqual([
      '+ cannot watch the API server: the server sent neither an event nor a bookmark for 200 s',
      '- cannot watch the API server: the server sent neither an event nor a bookmark for 200 s',
    ]);
    expect(world.requests('Service')).toEqual([`watch services from ${revision}`]);
    world.expectEqual();
    expect([world.deleted, world.messages]).toEqual([['default/old'], []]);
  });

  test('a stalled watch is not given up before its end if the server never sent a bookmark', async () => {
    const world = await startKubernetes(objects);
    world.server.stallWatches();
    world.requests();
    await world.advance(4 * minute);
    expect([world.requests(), world.messages]).toEqual([[], []]);
  });
});

describe('a watch with wrong events', () => {
  const first = ([line = '']: readonly string[]): string => line;
  const arrangements: { name: string; arrange: (lines: readonly string[]) => readonly string[] }[] = [
    { name: 'each event twice', arrange: (lines) => lines.flatMap((line) => [line, line]) },
    { name: 'all events twice', arrange: (lines) => [...lines, ...lines] },
    { name: 'all events in reverse order', arrange: (lines) => lines.toReversed() },
    { name: 'the first event last', arrange: (lines) => [...lines.slice(1), first(lines)] },
    { name: 'malformed JSON between events', arrange: (lines) => [first(lines), '}}garbage{{\n', ...lines.slice(1)] },
    { name: 'null between events', arrange: (lines) => [first(lines), 'null\n', ...lines.slice(1)] },
    { name: 'a truncated event', arrange: (lines) => [first(lines).slice(0, 40), '\n', ...lines.slice(1)] },
    { name: 'an error between events', arrange: (lines) => [first(lines), '{"type":"ERROR","object":{"code":500}}\n', ...lines.slice(1)] },
    { name: 'an event without its object', arrange: (lines) => [first(lines), '{"type":"DELETED"}\n', ...lines.slice(1)] },
    {
      name: 'the deletion of an object of another kind',
      arrange: (lines) => [
        first(lines),
        '{"type":"DELETED","object":{"kind":"Pod","metadata":{"name":"web","namespace":"default","resourceVersion":"99999"}}}\n',
        ...lines.slice(1),
      ],
    },
    { name: 'empty lines', arrange: (lines) => lines.flatMap((line) => ['\n', line, '\n\n']) },
    {
      name: 'an old bookmark between events',
      arrange: (lines) => [first(lines), '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n', ...lines.slice(1)],
    },
    {
      name: 'a bookmark without a resourceVersion',
      arrange: (lines) => [first(lines), '{"type":"BOOKMARK","object":{"metadata":{}}}\n', ...lines.slice(1)],
    },
  ];

  test.for(arrangements)('a watch with $name deletes only rows of deleted objects', async ({ arrange }) => {
    const world = await startKubernetes(objects);
    world.server.holdEvents();
    change(world);
    world.server.store.delete('Service', 'default/new');
    world.server.put(service('new', '10.96.0.5'), service('old', '10.96.0.6'));
    world.server.releaseEvents(arrange);
    await world.advance(2000);
    world.expectEqual();
    expect(world.messages).toEqual([]);
    // These are the only objects that the server deleted. It created both again later.
    expect(world.deleted.filter((key) => key !== 'default/new' && key !== 'default/old')).toEqual([]);
  });

  test('a list gets the objects if every watch sends a malformed event', async () => {
    const world = await startKubernetes(objects);
    world.server.fault = ({ query }) => (query.has('sendInitialEvents') ? undefined : { body: '}}garbage{{\n' });
    world.server.cut();
    change(world);
    await world.advance(10_000);
    world.expectEqual();
  });

  test('a bookmark with an older resourceVersion, as after a restore of etcd, causes a list', async () => {
    const world = await startKubernetes(objects);
    world.server.store.delete('Service', 'default/old');
    await world.turn();
    world.server.put(service('restored', '10.96.0.8'));
    world.server.releaseEvents(() => []);
    world.requests();
    world.server.sendToWatches('{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"2"}}}\n');
    await world.advance(2000);
    expect(world.requests('Service')).toEqual(['watch services initially']);
    world.expectEqual();
  });

  test('changes before the bookmark that ends the initial events are applied', async () => {
    const world = await startKubernetes(objects);
    world.server.holdEvents();
    await world.source.rescan();
    await world.turn();
    change(world);
    world.server.releaseEventsLate();
    await world.turn();
    world.expectEqual();
    expect([world.deleted, world.messages]).toEqual([['default/old'], []]);
  });
});

describe('an incomplete list', () => {
  const many = Array.from({ length: 1200 }, (_, i) => service(`s${String(i).padStart(4, '0')}`, `10.97.${i >> 8}.${i & 255}`));
  const paged = (world: KubernetesWorld): void => void (world.server.hasStreamingLists = false);
  const isContinued = ({ query }: { query: URLSearchParams }): boolean => query.has('continue');

  const faults: { name: string; fault: Fault }[] = [
    { name: 'refused', fault: 'refuse' },
    { name: 'interrupted', fault: { cutAfter: 5000 } },
    { name: 'truncated', fault: { body: '{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[]' } },
    { name: 'without a resourceVersion', fault: { body: '{"kind":"ServiceList","metadata":{},"items":[]}' } },
    { name: 'malformed', fault: { body: '}}}]]]' } },
    { name: 'a Table', fault: { body: '{"kind":"Table","metadata":{"resourceVersion":"7"},"rows":[]}' } },
    { name: 'without items', fault: { body: '{"kind":"ServiceList","metadata":{"resourceVersion":"7"}}' } },
    { name: 'with items that are no list', fault: { body: '{"metadata":{"resourceVersion":"7"},"items":{"a":{}}}' } },
    { name: 'of another kind', fault: { body: '{"kind":"PodList","metadata":{"resourceVersion":"7"},"items":[]}' } },
    {
      name: 'with an item of another kind',
      fault: { body: '{"metadata":{"resourceVersion":"7"},"items":[{"kind":"Pod","metadata":{"name":"a"}}]}' },
    },
    { name: 'with a number as resourceVersion', fault: { body: '{"metadata":{"resourceVersion":7},"items":[]}' } },
    { name: 'null', fault: { body: 'null' } },
    { name: 'expired', fault: { code: 410, reason: 'Expired', message: 'The provided continue parameter is too old' } },
  ];

  test.for(faults)('a list with a page that is $name starts again and deletes nothing before its end', async ({ fault }) => {
    const world = await startKubernetes(many, paged);
    world.server.holdEvents();
    world.server.store.delete('Service', 'default/s0003');
    world.server.releaseEvents(() => []);
    world.server.failNext(fault, isContinued);
    world.requests();
    await world.source.rescan();
    await world.turn();
    expect(world.deleted).toEqual([]);
    await world.advance(2000);
    world.expectEqual();
    expect(world.deleted).toEqual(['default/s0003']);
    expect(world.requests('Service').filter((line) => line === 'list services')).toHaveLength(2);
  });

  test('a list whose continue token has expired starts again', async () => {
    const world = await startKubernetes(many, paged);
    world.server.failNext('hang', isContinued);
    await world.source.rescan();
    await world.turn();
    world.server.put(service('new', '10.96.0.2'));
    world.server.store.compact();
    world.server.serve();
    await world.advance(2000);
    world.expectEqual();
    expect([world.deleted, world.messages]).toEqual([[], []]);
  });

  test.for([true, false])('an incomplete list that stalls is given up after 10 s (streaming: %s)', async (hasStreamingLists) => {
    const world = await startKubernetes(many, ({ server }) => Object.assign(server, { hasStreamingLists }));
    const { server } = world;
    server.failNext(
      { stallAfter: 5000 },
      ({ query, collection }) => collection.kind === 'Service' && query.has('sendInitialEvents') === hasStreamingLists,
    );
    await world.source.rescan();
    await world.advance(9990);
    expect(world.messages).toEqual([]);
    await world.advance(20);
    expect(world.messages).toEqual([expect.stringContaining('cannot watch the API server: the server sent nothing for 10 s')]);
    await world.advance(2000);
    expect([world.messages, world.deleted]).toEqual([[], []]);
    world.expectEqual();
  });

  test('an error response whose body stalls is given up too', async () => {
    const world = await startKubernetes(objects);
    world.server.failNext({ ...internal, stallAfter: 10 }, ({ collection }) => collection.kind === 'Service');
    world.server.cut();
    change(world);
    await world.advance(12_000);
    world.expectEqual();
  });
});
