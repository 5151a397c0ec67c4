// SPDX-License-Identifier: Apache-2.0
// LbMaps in memory. It behaves like the kernel's maps (a full hash map is E2BIG, arrays are filled with zeros, values are copied) and
// records every write. It must never accept what the kernel rejects. Used by unit tests and stories.
import { isDeepStrictEqual } from 'node:util';
import { KernelError } from '../../daemon/base/errors.ts';
import type { Family } from '../../daemon/model/address.ts';
import type {
  ArrayMap,
  BackendMapValue,
  FrontendMapKey,
  FrontendMapValue,
  HashMap,
  HostMapValue,
  LbMaps,
  Range,
  RangeMap,
  RangeMapKey,
  ServiceMapValue,
  SlotMap,
  SourceMapKey,
  SourceMaps,
} from '../../daemon/maps/types.ts';

export interface FakeCapacities {
  /** Entries of the frontend map of each IP family. */
  readonly frontends: number;
  /** Rows, including index 0. */
  readonly services: number;
  readonly slots: number;
  /** Rows of each IP family, including id 0. */
  readonly backends: number;
  /** Entries of the trie of each IP family. */
  readonly ranges: number;
}

/** One write as it was requested, even if it changed nothing. */
export interface FakeWrite {
  readonly map: string;
  readonly op: 'set' | 'delete' | 'write';
  /** The key, the index, or the first slot of the written range, as text. */
  readonly at: string;
}

/** LbMaps that record their writes. */
export interface FakeLbMaps extends LbMaps {
  /** All writes, oldest first. A test may empty the list. */
  readonly writes: FakeWrite[];
}

const defaults: FakeCapacities = { frontends: 1024, services: 1024, slots: 16_384, backends: 4096, ranges: 1024 };
const word = 2 ** 32;
const noService: ServiceMapValue = { base: 0, count: 0, localBase: 0, localCount: 0, affinity: 0 };
const noHost: HostMapValue = {
  ...{ address4: '0.0.0.0', flags: 0, address6: '::', netns: 0n, cluster4First: 0n, cluster4Last: 0n, cluster6First: 0n, cluster6Last: 0n },
  ...{ snatFirst: [0, 0], snatCount: [0, 0], forwardMark: 0, sourcesChanged: 0 },
};

/** Empty maps of the given sizes. */
export function fakeLbMaps(capacities: Partial<FakeCapacities> = {}): FakeLbMaps {
  const { frontends, services, slots, backends, ranges } = { ...defaults, ...capacities };
  const writes: FakeWrite[] = [];
  const backendMap = (name: string, family: Family): ArrayMap<BackendMapValue> =>
    new FakeArray(name, {
      capacity: backends,
      zero: { address: family === 'IPv4' ? '0.0.0.0' : '::', port: 0, service: 0, meta: 0 },
      writes,
    });
  return {
    frontends: {
      IPv4: new FakeHash<FrontendMapKey, FrontendMapValue>('lb4_frontends', frontends, { writes, keyText: frontendText }),
      IPv6: new FakeHash<FrontendMapKey, FrontendMapValue>('lb6_frontends', frontends, { writes, keyText: frontendText }),
    },
    services: new FakeArray<ServiceMapValue>('lb_services', { capacity: services, zero: noService, writes }),
    slots: new FakeSlots('lb_slots', slots, writes),
    backends: { IPv4: backendMap('lb4_backends', 'IPv4'), IPv6: backendMap('lb6_backends', 'IPv6') },
    ranges: { IPv4: new FakeRanges('lb4_ranges', ranges, writes), IPv6: new FakeRanges('lb6_ranges', ranges, writes) },
    host: new FakeArray<HostMapValue>('lb_host', { capacity: 1, zero: noHost, writes }),
    writes,
  };
}

const frontendText = (key: FrontendMapKey): string => `${key.address} ${key.port} ${key.protocol}`;

/** Empty maps of source addresses. */
export function fakeSourceMaps(): SourceMaps {
  const fake = (name: string): HashMap<SourceMapKey, { address: string }> =>
    new FakeHash(name, 64, { writes: [], keyText: ({ ifindex, address, prefix }) => `${ifindex} ${address} ${prefix}` });
  return { IPv4: fake('lb4_sources'), IPv6: fake('lb6_sources') };
}

class FakeHash<K extends object, V extends object> implements HashMap<K, V> {
  readonly name: string;
  readonly capacity: number;
  readonly #writes: FakeWrite[];
  readonly #keyText: (key: K) => string;
  readonly #entries = new Map<string, [K, V]>();

  constructor(name: string, capacity: number, { writes, keyText }: { writes: FakeWrite[]; keyText: (key: K) => string }) {
    this.name = name;
    this.capacity = capacity;
    this.#writes = writes;
    this.#keyText = keyText;
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(this.#keyText(key));
    return entry === undefined ? undefined : { ...entry[1] };
  }

  set(key: K, value: V): void {
    const at = this.#keyText(key);
    if (!this.#entries.has(at) && this.#entries.size >= this.capacity) {
      throw new KernelError({ op: 'map update', object: this.name, errno: 7, code: 'E2BIG' });
    }
    this.#writes.push({ map: this.name, op: 'set', at });
    this.#entries.set(at, [{ ...key }, { ...value }]);
  }

  delete(key: K): void {
    const at = this.#keyText(key);
    this.#writes.push({ map: this.name, op: 'delete', at });
    this.#entries.delete(at);
  }

  entries(): [K, V][] {
    return [...this.#entries.values()].map(([key, value]) => [{ ...key }, { ...value }]);
  }

  *keys(): Iterable<K> {
    for (const [key] of this.#entries.values()) yield { ...key };
  }
}

class FakeArray<V extends object> implements ArrayMap<V> {
  readonly name: string;
  readonly capacity: number;
  readonly #zero: V;
  readonly #writes: FakeWrite[];
  readonly #rows = new Map<number, V>();

  constructor(name: string, options: { capacity: number; zero: V; writes: FakeWrite[] }) {
    this.name = name;
    this.capacity = options.capacity;
    this.#zero = options.zero;
    this.#writes = options.writes;
  }

  get(index: number): V {
    this.#check(index);
    return { ...(this.#rows.get(index) ?? this.#zero) };
  }

  holds(index: number, value: V): boolean {
    return isDeepStrictEqual(this.get(index), value);
  }

  set(index: number, value: V): void {
    this.#check(index);
    this.#writes.push({ map: this.name, op: 'set', at: String(index) });
    this.#rows.set(index, { ...value });
  }

  rows({ base, count }: Range = { base: 0, count: this.capacity }): [number, V][] {
    if (count > 0) [base, base + count - 1].forEach((index) => this.#check(index));
    const text = (row: V): string => JSON.stringify(row, (_, value: unknown) => (typeof value === 'bigint' ? String(value) : value));
    const isZero = (row: V): boolean => text(row) === text(this.#zero);
    return [...this.#rows]
      .filter(([index, row]) => index >= base && index < base + count && !isZero(row))
      .map(([index, row]): [number, V] => [index, { ...row }])
      .sort(([a], [b]) => a - b);
  }

  #check(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.capacity) {
      throw new RangeError(`${this.name} has no index ${index}: its capacity is ${this.capacity}`);
    }
  }
}

class FakeSlots implements SlotMap {
  readonly name: string;
  readonly capacity: number;
  readonly #writes: FakeWrite[];
  readonly #ids: Uint32Array;

  constructor(name: string, capacity: number, writes: FakeWrite[]) {
    this.name = name;
    this.capacity = capacity;
    this.#writes = writes;
    this.#ids = new Uint32Array(capacity);
  }

  read(base: number, count: number): number[] {
    this.#check(base, count);
    return [...this.#ids.subarray(base, base + count)];
  }

  write(base: number, backendIds: readonly number[]): void {
    this.#check(base, backendIds.length);
    const bad = backendIds.find((id) => !Number.isInteger(id) || id < 0 || id >= word);
    if (bad !== undefined) throw new RangeError(`${this.name} holds 32-bit ids, and ${bad} is none`);
    this.#writes.push({ map: this.name, op: 'write', at: String(base) });
    this.#ids.set(backendIds, base);
  }

  #check(base: number, count: number): void {
    if (!Number.isInteger(base) || !Number.isInteger(count) || base < 0 || count < 0 || base + count > this.capacity) {
      throw new RangeError(`${this.name} has no run of ${count} slots at ${base}: its capacity is ${this.capacity}`);
    }
  }
}

class FakeRanges implements RangeMap {
  readonly name: string;
  readonly capacity: number;
  readonly #writes: FakeWrite[];
  readonly #entries = new Map<string, RangeMapKey>();

  constructor(name: string, capacity: number, writes: FakeWrite[]) {
    this.name = name;
    this.capacity = capacity;
    this.#writes = writes;
  }

  add(key: RangeMapKey): void {
    const at = rangeText(key);
    if (!this.#entries.has(at) && this.#entries.size >= this.capacity) {
      throw new KernelError({ op: 'map update', object: this.name, errno: 28, code: 'ENOSPC' });
    }
    this.#writes.push({ map: this.name, op: 'set', at });
    this.#entries.set(at, { ...key });
  }

  remove(key: RangeMapKey): void {
    const at = rangeText(key);
    this.#writes.push({ map: this.name, op: 'delete', at });
    this.#entries.delete(at);
  }

  entries(): RangeMapKey[] {
    return [...this.#entries.values()].map((key) => ({ ...key }));
  }
}

const rangeText = ({ set, address, prefix }: RangeMapKey): string => `${set} ${address}/${prefix}`;
