// SPDX-License-Identifier: Apache-2.0
// Another program deletes, changes and adds map entries. Each of these differences (drift) is repaired within one period and
// reported. Only entries that differ are written.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dumpMaps } from '../../support/dump-maps.ts';
import { frontendCheck } from '../../../daemon/maps/frontend-check.ts';
import { type FakeLbMaps, fakeLbMaps } from '../../support/fake-maps.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { portRow, serviceRow, serviceValue } from '../../support/builders.ts';
import { REPAIR_EVERY_MS, World } from '../../support/world.ts';

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
const foreign = { address: '10.96.0.9', port: 80, protocol: 6 };
const indexOf = (maps: FakeLbMaps): number => maps.frontends.IPv4.get(key)?.service ?? 0;

describe('drift is repaired and reported', () => {
  test.for<{ what: string; change: (maps: FakeLbMaps) => void; says: RegExp }>([
    {
      what: 'a deleted frontend',
      change: (maps) => maps.frontends.IPv4.delete(key),
      says: /^repaired a\/one:web\/TCP\/IPv4: entry 10\.96\.0\.1:80\/TCP of lb4_frontends was missing$/,
    },
    {
      what: 'a frontend with another service index',
      change: (maps) => maps.frontends.IPv4.set(key, { service: 3, meta: frontendCheck(key) }),
      says: /^repaired a\/one:web\/TCP\/IPv4: entry 10\.96\.0\.1:80\/TCP of lb4_frontends was changed$/,
    },
    {
      what: 'an added frontend that belongs to no Service port',
      change: (maps) => maps.frontends.IPv4.set(foreign, { service: indexOf(maps), meta: frontendCheck(foreign) }),
      says: /^repaired lb4_frontends: entry 10\.96\.0\.9:80\/TCP belonged to no Service port$/,
    },
    {
      what: 'an emptied run',
      change: (maps) => maps.services.set(indexOf(maps), serviceValue({ base: 0, count: 0 })),
      says: /^repaired a\/one:web\/TCP\/IPv4: row \d+ of lb_services was changed$/,
    },
    {
      what: 'an overwritten slot',
      change: (maps) => maps.slots.write(maps.services.get(indexOf(maps)).base, [63]),
      says: /^repaired a\/one:web\/TCP\/IPv4: the slots of lb_slots that start at index \d+ were changed$/,
    },
    {
      what: 'an overwritten backend',
      change: (maps) => {
        const { base } = maps.services.get(indexOf(maps));
        const [id = 0] = maps.slots.read(base, 1);
        maps.backends.IPv4.set(id, { ...maps.backends.IPv4.get(id), address: '10.9.9.9' });
      },
      says: /^repaired a\/one:web\/TCP\/IPv4: row \d+ of lb4_backends was changed$/,
    },
  ])('$what is repaired and reported', ({ change, says }) => {
    const { world, maps, before } = start();
    change(maps);
    expect(dumpMaps(maps)).not.toEqual(before);
    maps.writes.splice(0);
    world.advance(2 * REPAIR_EVERY_MS);
    expect(dumpMaps(maps)).toEqual(before);
    expect(world.log).toEqual([expect.stringMatching(says)]);
    expect(maps.writes).toHaveLength(1);
    // In the next periods, the repair is not reported again.
    world.advance(5 * REPAIR_EVERY_MS);
    expect(world.log).toHaveLength(1);
  });
});

test('nothing is written if there is no drift', () => {
  const { world, maps } = start();
  world.advance(20 * REPAIR_EVERY_MS);
  expect(maps.writes).toEqual([]);
  expect(world.log).toEqual([]);
});

test('after random writes by another program, the dump is restored, and Services can still be changed', () => {
  const id = fc.integer({ min: 1, max: 31 });
  const foreignWrite = fc.oneof(
    fc.record({ map: fc.constant('frontend' as const), at: fc.nat(9), service: id }),
    fc.record({ map: fc.constant('lost' as const), at: fc.nat(9) }),
    fc.record({ map: fc.constant('services' as const), at: id, base: fc.nat(200), count: fc.nat(50) }),
    fc.record({ map: fc.constant('slots' as const), at: fc.nat(200), ids: fc.array(id, { maxLength: 8 }) }),
    fc.record({ map: fc.constant('backends' as const), at: id, meta: fc.nat(), service: id }),
  );
  fc.assert(
    fc.property(fc.array(foreignWrite, { maxLength: 12 }), (foreignWrites) => {
      const { world, maps } = start();
      for (const each of foreignWrites) {
        const entries = maps.frontends.IPv4.entries();
        if (each.map === 'frontend') maps.frontends.IPv4.set({ ...foreign, port: 1 + each.at }, { service: each.service, meta: 1 });
        else if (each.map === 'lost' && entries.length > 0) maps.frontends.IPv4.delete(entries[each.at % entries.length]?.[0] ?? key);
        else if (each.map === 'services') maps.services.set(each.at, serviceValue({ base: each.base, count: each.count }));
        else if (each.map === 'slots') maps.slots.write(each.at, each.ids);
        else if (each.map === 'backends') {
          maps.backends.IPv4.set(each.at, { ...maps.backends.IPv4.get(each.at), meta: each.meta, service: each.service });
        }
      }
      world.advance(3 * REPAIR_EVERY_MS);
      // Rows that no frontend refers to are not repaired, so only the reachable part of the dump is compared.
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

/** The lines of a dump for all frontends (FE) and for the service rows (SVC) that they refer to. */
function reachable(maps: FakeLbMaps): string[] {
  const lines = dumpMaps(maps);
  const named = lines.filter((line) => line.startsWith('FE ')).map((line) => line.split(' -> #')[1] ?? line);
  return lines.filter((line) => line.startsWith('FE ') || named.some((name) => line.startsWith(`SVC ${name} `)));
}
