// SPDX-License-Identifier: Apache-2.0
// Somebody else writes into the maps: whatever they delete, change or add is put back within a period, said, and only what
// was changed is written.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dumpMaps } from '../../support/dump-maps.ts';
import { frontendCheck } from '../../../daemon/maps/frontend-check.ts';
import { type FakeLbMaps, fakeLbMaps } from '../../support/fake-maps.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { portRow, serviceRow, serviceValue } from '../../support/builders.ts';
import { MEND_EVERY_MS, World } from '../../support/world.ts';

const service = (name: string, vip: string): Service =>
  serviceRow({
    ...{ namespace: 'a', name, created: 1, clusterIPs: { IPv4: vip, IPv6: `fd00:96::${vip.split('.')[3]}` } },
    ports: [portRow({ name: 'web' }), portRow({ name: 'dns', protocol: 'UDP', port: 53 })],
  });

const slice = (name: string, ...pods: number[]): EndpointSlice => ({
  ...{ namespace: 'a', name: `${name}-s`, service: name, family: 'IPv4' as const },
  ports: [
    { name: 'web', protocol: 'TCP', port: 8080 },
    { name: 'dns', protocol: 'UDP', port: 5353 },
  ],
  endpoints: pods.map((n) => ({ address: `10.244.1.${n}`, ready: true, serving: true, terminating: false })),
});

function start(): { world: World; maps: FakeLbMaps; before: string[] } {
  const maps = fakeLbMaps({ frontends: 32, services: 32, slots: 256, backends: 64 });
  const world = new World({ maps })
    .put(service('one', '10.96.0.1'), service('two', '10.96.0.2'), slice('one', 2, 3), slice('two', 4))
    .listed()
    .settle();
  world.log.splice(0);
  maps.writes.splice(0);
  return { world, maps, before: dumpMaps(maps) };
}

const key = { address: '10.96.0.1', port: 80, protocol: 6 };
const stranger = { address: '10.96.0.9', port: 80, protocol: 6 };
const indexOf = (maps: FakeLbMaps): number => maps.frontends.IPv4.get(key)?.service ?? 0;

describe('put back and said', () => {
  test.for<{ what: string; change: (maps: FakeLbMaps) => void; says: RegExp }>([
    {
      what: 'a frontend deleted',
      change: (maps) => maps.frontends.IPv4.delete(key),
      says: /^mended a\/one:web\/TCP\/IPv4: lb4_frontends had lost 10\.96\.0\.1:80\/TCP$/,
    },
    {
      what: 'a frontend led elsewhere',
      change: (maps) => maps.frontends.IPv4.set(key, { service: 3, meta: frontendCheck(key) }),
      says: /^mended a\/one:web\/TCP\/IPv4: lb4_frontends led elsewhere for 10\.96\.0\.1:80\/TCP$/,
    },
    {
      what: 'a frontend of nobody added',
      change: (maps) => maps.frontends.IPv4.set(stranger, { service: indexOf(maps), meta: frontendCheck(stranger) }),
      says: /^mended lb4_frontends has 10\.96\.0\.9:80\/TCP, which is nobody's$/,
    },
    {
      what: 'a run emptied',
      change: (maps) => maps.services.set(indexOf(maps), serviceValue({ base: 0, count: 0 })),
      says: /^mended a\/one:web\/TCP\/IPv4: row \d+ of lb_services had been changed$/,
    },
    {
      what: 'a slot overwritten',
      change: (maps) => maps.slots.write(maps.services.get(indexOf(maps)).base, [63]),
      says: /^mended a\/one:web\/TCP\/IPv4: lb_slots from \d+ had been changed$/,
    },
    {
      what: 'a backend overwritten',
      change: (maps) => {
        const { base } = maps.services.get(indexOf(maps));
        const [id = 0] = maps.slots.read(base, 1);
        maps.backends.IPv4.set(id, { ...maps.backends.IPv4.get(id), address: '10.9.9.9' });
      },
      says: /^mended a\/one:web\/TCP\/IPv4: row \d+ of lb4_backends had been changed$/,
    },
  ])('$what', ({ change, says }) => {
    const { world, maps, before } = start();
    change(maps);
    expect(dumpMaps(maps)).not.toEqual(before);
    maps.writes.splice(0);
    world.advance(2 * MEND_EVERY_MS);
    expect(dumpMaps(maps)).toEqual(before);
    expect(world.log).toEqual([expect.stringMatching(says)]);
    expect(maps.writes).toHaveLength(1);
    // And once only.
    world.advance(5 * MEND_EVERY_MS);
    expect(world.log).toHaveLength(1);
  });
});

test('nothing changed: nothing is written, however long it runs', () => {
  const { world, maps } = start();
  world.advance(20 * MEND_EVERY_MS);
  expect(maps.writes).toEqual([]);
  expect(world.log).toEqual([]);
});

test('whatever is scribbled, the dump comes back, and the Services can still be changed', () => {
  const id = fc.integer({ min: 1, max: 31 });
  const scribble = fc.oneof(
    fc.record({ map: fc.constant('frontend' as const), at: fc.nat(9), service: id }),
    fc.record({ map: fc.constant('lost' as const), at: fc.nat(9) }),
    fc.record({ map: fc.constant('services' as const), at: id, base: fc.nat(200), count: fc.nat(50) }),
    fc.record({ map: fc.constant('slots' as const), at: fc.nat(200), ids: fc.array(id, { maxLength: 8 }) }),
    fc.record({ map: fc.constant('backends' as const), at: id, meta: fc.nat(), service: id }),
  );
  fc.assert(
    fc.property(fc.array(scribble, { maxLength: 12 }), (scribbles) => {
      const { world, maps } = start();
      for (const each of scribbles) {
        const entries = maps.frontends.IPv4.entries();
        if (each.map === 'frontend') maps.frontends.IPv4.set({ ...stranger, port: 1 + each.at }, { service: each.service, meta: 1 });
        else if (each.map === 'lost' && entries.length > 0) maps.frontends.IPv4.delete(entries[each.at % entries.length]?.[0] ?? key);
        else if (each.map === 'services') maps.services.set(each.at, serviceValue({ base: each.base, count: each.count }));
        else if (each.map === 'slots') maps.slots.write(each.at, each.ids);
        else if (each.map === 'backends') {
          maps.backends.IPv4.set(each.at, { ...maps.backends.IPv4.get(each.at), meta: each.meta, service: each.service });
        }
      }
      world.advance(3 * MEND_EVERY_MS);
      // Rows that no frontend leads to are nobody's: a dump of what can be reached is what must come back.
      expect(reachable(maps)).toEqual(reachable(start().maps));
      const changed = slice('one', 2, 5, 6);
      world.put(changed).settle();
      const clean = start();
      clean.world.put(changed).settle();
      expect(reachable(maps)).toEqual(reachable(clean.maps));
    }),
    { numRuns: 200 },
  );
});

/** Frontends and the backends that each leads to. */
function reachable(maps: FakeLbMaps): string[] {
  const lines = dumpMaps(maps);
  const named = lines.filter((line) => line.startsWith('FE ')).map((line) => line.split(' -> #')[1] ?? line);
  return lines.filter((line) => line.startsWith('FE ') || named.some((name) => line.startsWith(`SVC ${name} `)));
}
