// SPDX-License-Identifier: Apache-2.0
// An API server that is away, refuses, cuts, or talks nonsense. Whatever it does, nothing is withdrawn that it has not said
// to be gone, and when it is well again the tables are its objects within two seconds.
import { describe, expect, test } from 'vitest';
import { type Fault } from '../../support/double/api-server.ts';
import { internal, tooMany, unavailable } from '../../support/double/statuses.ts';
import { type KubernetesWorld, node, oneOfEach, service, slice, startKubernetes } from './kubernetes-fixture.ts';

/** What changes behind our back: one of each kind of change. */
function change({ server }: KubernetesWorld): void {
  server.put(service('new', '10.96.0.2'), service('web', '10.96.0.3'), slice('web-1', 'web', ['10.244.1.7']), node('node-1', 'b'));
  server.store.delete('Service', 'default/old');
}

const objects = [...oneOfEach, service('old', '10.96.0.9')];

describe('an outage', () => {
  const unwell: { name: string; fault: Fault; isSilent?: boolean }[] = [
    { name: 'refused', fault: 'refuse' },
    { name: 'accepted and never answered', fault: 'hang' },
    { name: 'silence', fault: 'hang', isSilent: true },
    { name: '500', fault: internal },
    { name: '503', fault: unavailable() },
    { name: '503 with Retry-After', fault: unavailable(1) },
    { name: '429', fault: tooMany() },
    { name: '429 with Retry-After', fault: tooMany(1) },
    { name: 'cut before the first byte', fault: { cutAfter: 0 } },
    { name: 'cut in the middle of the first line', fault: { cutAfter: 20 } },
    { name: 'garbage', fault: { body: '<html>502 Bad Gateway</html>\n' } },
    { name: 'half a list', fault: { body: '{"kind":"ServiceList","metadata":{"resourceVersion":"99"},"items":[' } },
    { name: 'nothing at all', fault: { body: '' } },
    { name: 'null', fault: { body: 'null\n' } },
    { name: 'a number', fault: { body: '5\n' } },
    { name: 'an event of nothing', fault: { body: '{"type":"ADDED"}\n' } },
    { name: 'an event of no known type', fault: { body: '{"type":"RENAMED","object":{}}\n' } },
    { name: 'an error event', fault: { body: '{"type":"ERROR","object":{"code":500,"message":"too bad"}}\n' } },
    { name: 'an error event of nothing', fault: { body: '{"type":"ERROR"}\n' } },
  ];

  for (const hasStreamingLists of [true, false]) {
    const how = hasStreamingLists ? 'streaming' : 'paged';

    test.for(unwell)(`of ten minutes, $name, ${how} lists`, async ({ fault, isSilent = false }) => {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { hasStreamingLists }));
      world.asked();
      world.server.fail(fault);
      if (!isSilent) world.server.cut();
      const before = world.revision;
      await world.advance(300_000);
      change(world);
      await world.advance(300_000);
      expect([world.revision, world.services, world.source.isComplete]).toEqual([before, ['default/old', 'default/web'], true]);
      // LabRequest often enough to notice its return, and not oftener.
      const asked = world.asked('Service').length;
      expect(asked).toBeGreaterThan(fault !== 'hang' ? 100 : isSilent ? 0 : 40);
      expect(asked).toBeLessThan(1300);
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect([world.withdrawn, world.messages, world.source.isComplete]).toEqual([['default/old'], [], true]);
    });

    test.for(unwell)(`from the start, $name, ${how} lists`, async ({ fault }) => {
      const world = await startKubernetes(objects, ({ server }) => {
        server.hasStreamingLists = hasStreamingLists;
        server.fail(fault);
      });
      await world.advance(60_000);
      expect([world.source.isComplete, world.tables.services.initialized]).toEqual([false, false]);
      // What cuts all of them off is one problem; what is said of each is one for each, and may be this or that.
      if (typeof fault === 'string') expect(world.messages).toHaveLength(1);
      else expect(world.messages.length).toBeGreaterThan(0);
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect([world.withdrawn, world.messages, world.log.at(-1), world.source.isComplete]).toEqual([[], [], 'complete', true]);
    });
  }

  test('is announced once, whatever reasons it has while it lasts, and its end once', async () => {
    const world = await startKubernetes(objects);
    world.log.length = 0;
    for (const fault of ['refuse', 'hang', 'refuse'] as const) {
      world.server.fail(fault);
      world.server.cut();
      await world.advance(60_000);
    }
    expect(world.messages).toEqual([expect.stringMatching(/^the API server cannot be followed: /)]);
    world.server.serve();
    await world.advance(2000);
    expect(world.log).toEqual([
      expect.stringMatching(/^\+ the API server cannot be followed: /),
      expect.stringMatching(/^- the API server cannot be followed: /),
    ]);
  });

  test('longer than the server remembers: 410, a list, and what went meanwhile is withdrawn', async () => {
    for (const tooOldComes of ['as status', 'as event'] as const) {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { tooOldComes }));
      const position = world.server.store.revision;
      world.server.fail('refuse');
      await world.advance(600_000);
      change(world);
      world.server.store.compact();
      world.asked();
      world.server.serve();
      await world.advance(2000);
      world.expectEqual();
      expect(world.asked('Service')).toEqual([`watch services from ${position}`, 'watch services initially']);
      expect([world.withdrawn, world.messages]).toEqual([['default/old'], []]);
    }
  });
});

describe('a watch that is cut', () => {
  test('a hundred times, in the middle of events, goes on where it was: nothing is listed again, nothing is lost', async () => {
    const world = await startKubernetes(objects);
    world.asked();
    for (let round = 0; round < 100; round += 1) {
      world.server.put(service('web', `10.96.1.${round}`));
      await world.turn();
      world.server.hold();
      world.server.put(service(`s${round}`, `10.96.2.${round}`));
      world.server.release((lines) => lines.map((line) => line.slice(0, round)));
      world.server.cut();
      world.server.put(service('old', `10.96.3.${round}`));
      await world.advance(1000);
      world.expectEqual();
    }
    expect(world.asked().filter((line) => line.includes('initially') || line.startsWith('list'))).toEqual([]);
    expect([world.withdrawn, world.messages]).toEqual([[], []]);
  });

  test('during the first list begins it again, and what is there stays', async () => {
    const world = await startKubernetes(objects);
    world.server.failNext({ cutAfter: 300 }, ({ query, collection }) => query.has('sendInitialEvents') && collection.kind === 'Service');
    await world.source.rescan();
    await world.turn();
    expect(world.messages).toEqual(['the API server cannot be followed: http://double cut the connection: read ECONNRESET']);
    await world.advance(1000);
    expect([world.services, world.withdrawn, world.messages]).toEqual([['default/old', 'default/web'], [], []]);
  });

  test('in good order and at once, with or without a word, does not make us spin', async () => {
    for (const word of ['', 'bookmark', 'event']) {
      const world = await startKubernetes(objects);
      world.server.fault = ({ query }) => {
        const position = Number(query.get('resourceVersion') ?? 0);
        const metadata = { ...service('web').metadata, resourceVersion: String(position + 1) };
        const type = word === 'event' ? 'MODIFIED' : 'BOOKMARK';
        return { body: word === '' ? '' : `${JSON.stringify({ type, object: { ...service('web'), metadata } })}\n` };
      };
      world.server.end();
      await world.advance(60_000);
      world.asked();
      await world.advance(60_000);
      const asked = world.asked('Service').length;
      expect(asked, word).toBeGreaterThanOrEqual(60);
      expect(asked, word).toBeLessThanOrEqual(120);
      expect(world.withdrawn).toEqual([]);
    }
  });

  test('410 again and again does not make us list all the time', async () => {
    for (const tooOldComes of ['as status', 'as event'] as const) {
      const world = await startKubernetes(objects, ({ server }) => Object.assign(server, { tooOldComes, hasStreamingLists: false }));
      world.server.fail('refuse');
      await world.advance(5000);
      expect(world.messages).toHaveLength(1);
      world.server.fault = ({ verb }) =>
        verb === 'watch' ? { code: 410, reason: 'Expired', message: 'too old resource version' } : undefined;
      world.server.end();
      await world.advance(60_000);
      world.asked();
      await world.advance(60_000);
      expect(world.asked('Service').filter((line) => line === 'list services').length).toBeLessThanOrEqual(30);
      expect([world.withdrawn, world.messages]).toEqual([[], []]);
    }
  });
});

describe('a watch that the server has forgotten, while its connection is well', () => {
  const minute = 60_000;

  test('is given up when three bookmarks are missing, and goes on where it was', async () => {
    const world = await startKubernetes(objects);
    await world.advance(1.5 * minute);
    world.asked();
    const { revision } = world.server.store;
    world.server.forget();
    change(world);
    await world.advance(2.8 * minute);
    expect([world.asked(), world.messages, world.services]).toEqual([[], [], ['default/old', 'default/web']]);
    await world.advance(0.2 * minute);
    expect(world.log.slice(-2)).toEqual([
      '+ the API server cannot be followed: the server has sent nothing for 200 s, no bookmark either',
      '- the API server cannot be followed: the server has sent nothing for 200 s, no bookmark either',
    ]);
    expect(world.asked('Service')).toEqual([`watch services from ${revision}`]);
    world.expectEqual();
    expect([world.withdrawn, world.messages]).toEqual([['default/old'], []]);
  });

  test('lasts where no bookmark ever came: there are servers without', async () => {
    const world = await startKubernetes(objects);
    world.server.forget();
    world.asked();
    await world.advance(4 * minute);
    expect([world.asked(), world.messages]).toEqual([[], []]);
  });
});

describe('a watch that says the wrong things', () => {
  const first = ([line = '']: readonly string[]): string => line;
  const arrangements: { name: string; arrange: (lines: readonly string[]) => readonly string[] }[] = [
    { name: 'each event twice', arrange: (lines) => lines.flatMap((line) => [line, line]) },
    { name: 'everything twice', arrange: (lines) => [...lines, ...lines] },
    { name: 'everything backwards', arrange: (lines) => lines.toReversed() },
    { name: 'the first event last', arrange: (lines) => [...lines.slice(1), first(lines)] },
    { name: 'garbage between', arrange: (lines) => [first(lines), '}}garbage{{\n', ...lines.slice(1)] },
    { name: 'null between', arrange: (lines) => [first(lines), 'null\n', ...lines.slice(1)] },
    { name: 'half an event', arrange: (lines) => [first(lines).slice(0, 40), '\n', ...lines.slice(1)] },
    { name: 'an error between', arrange: (lines) => [first(lines), '{"type":"ERROR","object":{"code":500}}\n', ...lines.slice(1)] },
    { name: 'an event without its object', arrange: (lines) => [first(lines), '{"type":"DELETED"}\n', ...lines.slice(1)] },
    { name: 'empty lines', arrange: (lines) => lines.flatMap((line) => ['\n', line, '\n\n']) },
    {
      name: 'an old bookmark between',
      arrange: (lines) => [first(lines), '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1"}}}\n', ...lines.slice(1)],
    },
    {
      name: 'a bookmark that says nothing',
      arrange: (lines) => [first(lines), '{"type":"BOOKMARK","object":{"metadata":{}}}\n', ...lines.slice(1)],
    },
  ];

  test.for(arrangements)('$name: only what is gone is withdrawn', async ({ arrange }) => {
    const world = await startKubernetes(objects);
    world.server.hold();
    change(world);
    world.server.store.delete('Service', 'default/new');
    world.server.put(service('new', '10.96.0.5'), service('old', '10.96.0.6'));
    world.server.release(arrange);
    await world.advance(2000);
    world.expectEqual();
    expect(world.messages).toEqual([]);
    // Both went and came back; web and the others were there all the time.
    expect(world.withdrawn.filter((key) => key !== 'default/new' && key !== 'default/old')).toEqual([]);
  });

  test('an event that nobody can read, for ever: a list gets past it', async () => {
    const world = await startKubernetes(objects);
    world.server.fault = ({ query }) => (query.has('sendInitialEvents') ? undefined : { body: '}}garbage{{\n' });
    world.server.cut();
    change(world);
    await world.advance(10_000);
    world.expectEqual();
  });

  test('a server whose etcd was restored from a backup: a bookmark of the past, and we list', async () => {
    const world = await startKubernetes(objects);
    world.server.store.delete('Service', 'default/old');
    await world.turn();
    world.server.put(service('restored', '10.96.0.8'));
    world.server.release(() => []);
    world.asked();
    world.server.say('{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"2"}}}\n');
    await world.advance(2000);
    expect(world.asked('Service')).toEqual(['watch services initially']);
    world.expectEqual();
  });

  test('changes among the initial events are taken as they come: a server that is behind sends them before the bookmark', async () => {
    const world = await startKubernetes(objects);
    world.server.hold();
    await world.source.rescan();
    await world.turn();
    change(world);
    world.server.releaseLate();
    await world.turn();
    world.expectEqual();
    expect([world.withdrawn, world.messages]).toEqual([['default/old'], []]);
  });
});

describe('a list that does not come to its end', () => {
  const many = Array.from({ length: 1200 }, (_, i) => service(`s${String(i).padStart(4, '0')}`, `10.97.${i >> 8}.${i & 255}`));
  const paged = (world: KubernetesWorld): void => void (world.server.hasStreamingLists = false);
  const isContinued = ({ query }: { query: URLSearchParams }): boolean => query.has('continue');

  const breaks: { name: string; fault: Fault }[] = [
    { name: 'refused', fault: 'refuse' },
    { name: 'cut', fault: { cutAfter: 5000 } },
    { name: 'without an end', fault: { body: '{"kind":"ServiceList","metadata":{"resourceVersion":"7"},"items":[]' } },
    { name: 'without a resourceVersion', fault: { body: '{"kind":"ServiceList","metadata":{},"items":[]}' } },
    { name: 'garbage', fault: { body: '}}}]]]' } },
    { name: 'null', fault: { body: 'null' } },
    { name: 'gone', fault: { code: 410, reason: 'Expired', message: 'The provided continue parameter is too old' } },
  ];

  test.for(breaks)('a page that is $name: the list begins anew, and withdraws nothing before its end', async ({ fault }) => {
    const world = await startKubernetes(many, paged);
    world.server.hold();
    world.server.store.delete('Service', 'default/s0003');
    world.server.release(() => []);
    world.server.failNext(fault, isContinued);
    world.asked();
    await world.source.rescan();
    await world.turn();
    expect(world.withdrawn).toEqual([]);
    await world.advance(2000);
    world.expectEqual();
    expect(world.withdrawn).toEqual(['default/s0003']);
    expect(world.asked('Service').filter((line) => line === 'list services')).toHaveLength(2);
  });

  test('a continue token that has expired', async () => {
    const world = await startKubernetes(many, paged);
    world.server.failNext('hang', isContinued);
    await world.source.rescan();
    await world.turn();
    world.server.put(service('new', '10.96.0.2'));
    world.server.store.compact();
    world.server.serve();
    await world.advance(2000);
    world.expectEqual();
    expect([world.withdrawn, world.messages]).toEqual([[], []]);
  });

  test.for([true, false])('that falls silent in its middle is given up after 10 s (streaming: %s)', async (hasStreamingLists) => {
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
    expect(world.messages).toEqual([expect.stringContaining('the API server cannot be followed: the server has said nothing for 10 s')]);
    await world.advance(2000);
    expect([world.messages, world.withdrawn]).toEqual([[], []]);
    world.expectEqual();
  });

  test('a refusal that falls silent, too', async () => {
    const world = await startKubernetes(objects);
    world.server.failNext({ ...internal, stallAfter: 10 }, ({ collection }) => collection.kind === 'Service');
    world.server.cut();
    change(world);
    await world.advance(12_000);
    world.expectEqual();
  });
});
