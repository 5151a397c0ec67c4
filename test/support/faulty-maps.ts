// SPDX-License-Identifier: Apache-2.0
// LbMaps that fail: wraps other LbMaps and throws KernelError in a given share of the operations, before the operation has any effect.
// Every story and property also runs on faulty maps, which proves that retries reach the right state. The faults are seeded, so that a
// failing run can be repeated.
import { KernelError } from '../../daemon/base/errors.ts';
import type { ArrayMap, HashMap, LbMaps, RangeMap, SlotMap } from '../../daemon/maps/types.ts';
import { seededRandom } from './fake-clock.ts';

export interface FaultOptions {
  /** Share of operations that fail, from 0 to 1. */
  readonly rate: number;
  readonly seed?: number;
  /** Whether reads fail too. */
  readonly reads?: boolean;
}

export interface FaultyLbMaps extends LbMaps {
  /** May be changed at any time. With 0 no operation fails. */
  rate: number;
  /** Number of operations that failed. */
  readonly failures: number;
}

type Fault = (map: string, op: 'read' | 'write') => void;

const kinds = [
  { errno: 11, code: 'EAGAIN' },
  { errno: 12, code: 'ENOMEM' },
];

/** Wraps `maps`. Deleting a missing key may fail like any other write. */
export function faultyLbMaps(maps: LbMaps, options: FaultOptions): FaultyLbMaps {
  const random = seededRandom(options.seed ?? 1);
  let failures = 0;
  const fault: Fault = (map, op) => {
    if ((op === 'read' && options.reads !== true) || random() >= faulty.rate) return;
    failures += 1;
    const kind = kinds[failures % kinds.length] ?? { errno: 11, code: 'EAGAIN' };
    throw new KernelError({ op: `map ${op}`, object: map, ...kind, detail: 'injected' });
  };
  const faulty = {
    rate: options.rate,
    get failures() {
      return failures;
    },
    frontends: { IPv4: faultyHash(maps.frontends.IPv4, fault), IPv6: faultyHash(maps.frontends.IPv6, fault) },
    services: faultyArray(maps.services, fault),
    slots: faultySlots(maps.slots, fault),
    backends: { IPv4: faultyArray(maps.backends.IPv4, fault), IPv6: faultyArray(maps.backends.IPv6, fault) },
    ranges: { IPv4: faultyRanges(maps.ranges.IPv4, fault), IPv6: faultyRanges(maps.ranges.IPv6, fault) },
    host: faultyArray(maps.host, fault),
  };
  return faulty;
}

function faultyHash<K, V>(map: HashMap<K, V>, fault: Fault): HashMap<K, V> {
  const { name, capacity } = map;
  return {
    name,
    capacity,
    get: (key) => (fault(name, 'read'), map.get(key)),
    set: (key, value) => (fault(name, 'write'), map.set(key, value)),
    delete: (key) => (fault(name, 'write'), map.delete(key)),
    entries: () => (fault(name, 'read'), map.entries()),
    keys: () => (fault(name, 'read'), map.keys()),
  };
}

function faultyArray<V>(map: ArrayMap<V>, fault: Fault): ArrayMap<V> {
  const { name, capacity } = map;
  return {
    name,
    capacity,
    get: (index) => (fault(name, 'read'), map.get(index)),
    holds: (index, value) => (fault(name, 'read'), map.holds(index, value)),
    set: (index, value) => (fault(name, 'write'), map.set(index, value)),
    rows: (range) => (fault(name, 'read'), map.rows(range)),
  };
}

function faultyRanges(map: RangeMap, fault: Fault): RangeMap {
  const { name, capacity } = map;
  return {
    name,
    capacity,
    add: (key) => (fault(name, 'write'), map.add(key)),
    remove: (key) => (fault(name, 'write'), map.remove(key)),
    entries: () => (fault(name, 'read'), map.entries()),
  };
}

function faultySlots(map: SlotMap, fault: Fault): SlotMap {
  const { name, capacity } = map;
  return {
    name,
    capacity,
    read: (base, count) => (fault(name, 'read'), map.read(base, count)),
    write: (base, ids) => (fault(name, 'write'), map.write(base, ids)),
  };
}
