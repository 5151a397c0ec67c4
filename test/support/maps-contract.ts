// SPDX-License-Identifier: Apache-2.0
// The contract of LbMaps as a suite that every implementation must pass: the fake and the faulty maps in test/unit/, the kernel's maps in
// test/kernel/. Everything that services/apply/ relies on must be in it.
import { describe, expect, test } from 'vitest';
import { isNoSpace } from '../../daemon/base/errors.ts';
import { type Family, families } from '../../daemon/model/address.ts';
import type { BackendMapValue, FrontendMapKey, LbMaps } from '../../daemon/maps/types.ts';
import { serviceValue } from './builders.ts';

/** The capacities that the suite needs, small enough that it can fill the maps. The kernel's map of slots has rows of 16 slots. */
export const contractSizes = { frontends: 8, services: 8, slots: 64, backends: 8 } as const;

const u32 = 0xffff_ffff;

const addresses: Record<Family, readonly [string, string]> = {
  IPv4: ['10.96.0.10', '255.255.255.255'],
  IPv6: ['fd00:10:96::a', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
};

const zeroAddress: Record<Family, string> = { IPv4: '0.0.0.0', IPv6: '::' };

const keyOf = (family: Family, port: number): FrontendMapKey => ({ address: addresses[family][0], port, protocol: 6 });

/** Registers the suite. Each call of `make` must return empty maps with the capacities of contractSizes. */
export function testLbMaps(name: string, make: () => LbMaps): void {
  describe(`LbMaps contract: ${name}`, () => {
    describe.for(families)('%s frontends', (family) => testFrontends(family, make));
    describe.for(families)('%s backends', (family) => testBackends(family, make));
    describe('services', () => testServices(make));
    describe('slots', () => testSlots(make));
  });
}

function testFrontends(family: Family, make: () => LbMaps): void {
  const sorted = (maps: LbMaps) => maps.frontends[family].entries().sort(([a], [b]) => a.port - b.port || a.protocol - b.protocol);

  test('a missing key has no value', () => {
    expect(make().frontends[family].get(keyOf(family, 80))).toBeUndefined();
  });

  test('get() returns what set() stored, and a second set() replaces it', () => {
    const map = make().frontends[family];
    map.set(keyOf(family, 80), { service: 1, meta: 2 });
    expect(map.get(keyOf(family, 80))).toEqual({ service: 1, meta: 2 });
    map.set(keyOf(family, 80), { service: u32, meta: u32 });
    expect(map.get(keyOf(family, 80))).toEqual({ service: u32, meta: u32 });
    expect(map.entries()).toEqual([[keyOf(family, 80), { service: u32, meta: u32 }]]);
  });

  test('keys differ by address, by port and by protocol', () => {
    const maps = make();
    const [low, high] = addresses[family];
    const keys = [
      { address: low, port: 1, protocol: 6 },
      { address: low, port: 2, protocol: 6 },
      { address: low, port: 2, protocol: 17 },
      { address: high, port: 65_535, protocol: 255 },
    ];
    keys.forEach((key, i) => maps.frontends[family].set(key, { service: i + 1, meta: i }));
    expect(sorted(maps)).toEqual(keys.map((key, i) => [key, { service: i + 1, meta: i }]));
  });

  test('keys and values are copied when they are stored and when they are read', () => {
    const map = make().frontends[family];
    const [key, value] = [keyOf(family, 80), { service: 1, meta: 2 }];
    map.set(key, value);
    value.service = 9;
    key.port = 81;
    const read = map.get(keyOf(family, 80));
    if (read !== undefined) read.meta = 9;
    expect(map.entries()).toEqual([[keyOf(family, 80), { service: 1, meta: 2 }]]);
  });

  test('delete() removes only its key, and succeeds for a missing key', () => {
    const maps = make();
    maps.frontends[family].set(keyOf(family, 80), { service: 1, meta: 1 });
    maps.frontends[family].set(keyOf(family, 81), { service: 2, meta: 2 });
    maps.frontends[family].delete(keyOf(family, 80));
    maps.frontends[family].delete(keyOf(family, 80));
    expect(sorted(maps)).toEqual([[keyOf(family, 81), { service: 2, meta: 2 }]]);
  });

  test('a full map rejects a new key, replaces existing keys, and accepts a new key after a delete', () => {
    const maps = make();
    const map = maps.frontends[family];
    expect(map.capacity).toBe(contractSizes.frontends);
    for (let port = 1; port <= map.capacity; port += 1) map.set(keyOf(family, port), { service: port, meta: 0 });
    expect(caught(() => map.set(keyOf(family, 1000), { service: 1, meta: 0 }))).toSatisfy(isNoSpace);
    map.set(keyOf(family, 1), { service: 99, meta: 0 });
    expect(map.get(keyOf(family, 1))?.service).toBe(99);
    expect(map.entries()).toHaveLength(map.capacity);
    expect([...map.keys()]).toHaveLength(map.capacity);
    map.delete(keyOf(family, 2));
    map.set(keyOf(family, 1000), { service: 1, meta: 0 });
    expect(map.entries()).toHaveLength(map.capacity);
    expect([...map.keys()]).toHaveLength(map.capacity);
  });
}

function testBackends(family: Family, make: () => LbMaps): void {
  const zero: BackendMapValue = { address: zeroAddress[family], port: 0, service: 0, meta: 0 };

  test('every row is zero until it is set', () => {
    const map = make().backends[family];
    expect(map.capacity).toBe(contractSizes.backends);
    for (let id = 0; id < map.capacity; id += 1) expect(map.get(id)).toEqual(zero);
  });

  test.for([
    { name: 'a typical row', row: { address: addresses[family][0], port: 8080, service: 3, meta: 0x10f } },
    { name: 'the largest values', row: { address: addresses[family][1], port: 65_535, service: u32, meta: u32 } },
    { name: 'a row that is zero except for its generation', row: { ...zero, meta: 0x100 } },
  ])('$name is read back from the first and the last index, and no other row changes', ({ row }) => {
    const map = make().backends[family];
    map.set(0, row);
    map.set(map.capacity - 1, row);
    expect(map.get(0)).toEqual(row);
    expect(map.get(map.capacity - 1)).toEqual(row);
    expect(map.get(1)).toEqual(zero);
  });

  test('holds() is true only for the row that is stored', () => {
    const map = make().backends[family];
    const row = { address: addresses[family][1], port: 80, service: 7, meta: 0x108 };
    const others = [zero, { ...row, address: addresses[family][0] }, { ...row, port: 81 }, { ...row, service: 8 }, { ...row, meta: 0x109 }];
    expect([map.holds(3, zero), map.holds(3, row)]).toEqual([true, false]);
    map.set(3, row);
    expect([map.holds(3, row), others.some((other) => map.holds(3, other)), map.holds(2, row)]).toEqual([true, false, false]);
  });

  test('a row is replaced as a whole, even by zeros', () => {
    const map = make().backends[family];
    map.set(2, { address: addresses[family][1], port: 65_535, service: u32, meta: u32 });
    map.set(2, { address: addresses[family][0], port: 80, service: 1, meta: 0x108 });
    expect(map.get(2)).toEqual({ address: addresses[family][0], port: 80, service: 1, meta: 0x108 });
    map.set(2, zero);
    expect(map.get(2)).toEqual(zero);
  });

  test('rows() lists the rows that are not all zeros, in order', () => {
    const map = make().backends[family];
    expect(map.rows()).toEqual([]);
    const row = { address: addresses[family][1], port: 80, service: 1, meta: 0x100 };
    for (const id of [map.capacity - 1, 0, 3, 2]) map.set(id, row);
    map.set(2, zero);
    map.set(3, { ...zero, meta: 0x100 });
    expect(map.rows()).toEqual([
      [0, row],
      [3, { ...zero, meta: 0x100 }],
      [map.capacity - 1, row],
    ]);
  });

  test('rows() of a range lists only the rows in the range', () => {
    const map = make().backends[family];
    const row = { address: addresses[family][1], port: 80, service: 1, meta: 0x100 };
    for (const id of [0, 2, 3, 5, map.capacity - 1]) map.set(id, row);
    const ids = (base: number, count: number): number[] => map.rows({ base, count }).map(([id]) => id);
    expect([ids(0, 3), ids(3, 2), ids(4, 1), ids(5, map.capacity - 5), ids(2, 0)]).toEqual([[0, 2], [3], [], [5, map.capacity - 1], []]);
    expect(() => map.rows({ base: 1, count: map.capacity })).toThrow(RangeError);
  });

  test('an index outside of the map causes a RangeError', () => {
    const map = make().backends[family];
    for (const index of [-1, map.capacity, 0.5]) {
      expect(() => map.get(index)).toThrow(RangeError);
      expect(() => map.holds(index, zero)).toThrow(RangeError);
      expect(() => map.set(index, zero)).toThrow(RangeError);
    }
  });
}

function testServices(make: () => LbMaps): void {
  test('rows are zero until they are set, and are read back', () => {
    const map = make().services;
    expect(map.capacity).toBe(contractSizes.services);
    for (let index = 0; index < map.capacity; index += 1) expect(map.get(index)).toEqual(serviceValue({ base: 0, count: 0 }));
    map.set(map.capacity - 1, serviceValue({ base: u32, count: u32 }));
    map.set(1, serviceValue({ base: 1, count: 2 }));
    expect(map.rows()).toEqual([
      [1, serviceValue({ base: 1, count: 2 })],
      [map.capacity - 1, serviceValue({ base: u32, count: u32 })],
    ]);
    expect(map.get(map.capacity - 1)).toEqual(serviceValue({ base: u32, count: u32 }));
    expect(map.get(1)).toEqual(serviceValue({ base: 1, count: 2 }));
    map.set(1, serviceValue({ base: 0, count: 0 }));
    expect(map.get(1)).toEqual(serviceValue({ base: 0, count: 0 }));
  });

  test('an index outside of the map causes a RangeError', () => {
    const map = make().services;
    for (const index of [-1, map.capacity]) {
      expect(() => map.get(index)).toThrow(RangeError);
      expect(() => map.set(index, serviceValue({ base: 0, count: 0 }))).toThrow(RangeError);
    }
  });
}

function testSlots(make: () => LbMaps): void {
  const run = (count: number, first = 1): number[] => Array.from({ length: count }, (_, i) => first + i);

  test('slots are zero until they are written', () => {
    const map = make().slots;
    expect(map.capacity).toBe(contractSizes.slots);
    expect(map.read(0, map.capacity)).toEqual(Array(map.capacity).fill(0));
  });

  test.for([
    { name: 'one slot', base: 5, count: 1 },
    { name: 'a complete row of 16', base: 16, count: 16 },
    { name: 'slots of two rows', base: 14, count: 4 },
    { name: 'slots of several rows', base: 9, count: 42 },
    { name: 'the last slots', base: 61, count: 3 },
    { name: 'all slots', base: 0, count: 64 },
    { name: 'no slot, at the end', base: 64, count: 0 },
  ])('a write of $name is read back, and no other slot changes', ({ base, count }) => {
    const map = make().slots;
    map.write(0, Array(map.capacity).fill(u32));
    map.write(base, run(count));
    expect(map.read(base, count)).toEqual(run(count));
    const all = map.read(0, map.capacity);
    expect(all.filter((id, slot) => (slot < base || slot >= base + count) && id !== u32)).toEqual([]);
  });

  test('a run of slots outside of the map causes a RangeError', () => {
    const map = make().slots;
    for (const base of [-1, map.capacity - 1]) {
      expect(() => map.write(base, [1, 2])).toThrow(RangeError);
      expect(() => map.read(base, 2)).toThrow(RangeError);
    }
  });
}

function caught(task: () => void): unknown {
  try {
    task();
  } catch (error) {
    return error;
  }
  return undefined;
}
