// SPDX-License-Identifier: Apache-2.0
// The load balancer's maps in the kernel: the interfaces of types.ts over pinned BPF maps, by the generated codecs.
// Arrays are shared memory, mapped read-only until the first difference must be written (a daemon that has nothing to
// change cannot change anything). Used by reconcile/ and, for reading, by agent-view.ts.
import type { BpfMap } from '../kernel/map.ts';
import { type Codec, decoded, encoded } from './codec.ts';
import {
  lb4BackendCodec,
  lb4KeyCodec,
  lb4RangeKeyCodec,
  lb6BackendCodec,
  lb6KeyCodec,
  lb6RangeKeyCodec,
  lbFrontendCodec,
  lbHostCodec,
  lbServiceCodec,
} from './gen/layouts.ts';
import { type ArrayMap, type HashMap, type LbMaps, type RangeMap, type RangeMapKey, type SlotMap, SLOTS_PER_ROW } from './types.ts';

/** Opens a pinned map of ours by name; throws when it is not there. */
export type OpenMap = (name: string) => BpfMap;

class KernelHash<K, V> implements HashMap<K, V> {
  readonly #map: BpfMap;
  readonly #key: Codec<K>;
  readonly #value: Codec<V>;

  constructor(map: BpfMap, codecs: { key: Codec<K>; value: Codec<V> }) {
    this.#map = map;
    this.#key = codecs.key;
    this.#value = codecs.value;
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  get(key: K): V | undefined {
    const bytes = this.#map.get(encoded(this.#key, key));
    return bytes === undefined ? undefined : decoded(this.#value, bytes);
  }

  set(key: K, value: V): void {
    this.#map.set(encoded(this.#key, key), encoded(this.#value, value));
  }

  delete(key: K): void {
    this.#map.delete(encoded(this.#key, key));
  }

  entries(): [K, V][] {
    return [...this.#map.entries()].map(([key, value]) => [decoded(this.#key, key), decoded(this.#value, value)]);
  }

  *keys(): Iterable<K> {
    for (const [key] of this.#map.entries()) yield decoded(this.#key, key);
  }
}

function inRange(index: number, count: number, map: { name: string; capacity: number }): void {
  if (!Number.isInteger(index) || index < 0 || count < 0 || index + count > map.capacity) {
    throw new RangeError(`${map.name} has ${map.capacity} entries, asked for ${index}..${index + count - 1}`);
  }
}

const zeros = Buffer.alloc(1 << 16);

/** Of a large array most is. Compared by memcmp, a piece at a time. */
function isZero(bytes: Uint8Array): boolean {
  for (let from = 0; from < bytes.length; from += zeros.length) {
    const piece = bytes.subarray(from, from + zeros.length);
    if (zeros.compare(piece, 0, piece.length, 0, piece.length) !== 0) return false;
  }
  return true;
}

class KernelArray<V> implements ArrayMap<V> {
  readonly #map: BpfMap;
  readonly #codec: Codec<V>;
  readonly #stride: number;

  constructor(map: BpfMap, codec: Codec<V>) {
    this.#map = map;
    this.#codec = codec;
    this.#stride = Math.ceil(codec.size / 8) * 8;
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  get(index: number): V {
    inRange(index, 1, this);
    return this.#codec.decode(new DataView(this.#map.mmap(false), index * this.#stride, this.#codec.size));
  }

  set(index: number, value: V): void {
    inRange(index, 1, this);
    const at = index * this.#stride;
    const wanted = new BigInt64Array(encoded(this.#codec, value).buffer);
    const held = new BigInt64Array(this.#map.mmap(false), at, wanted.length);
    if (wanted.every((word, i) => word === held[i])) return;
    // From here on `held` may be unmapped.
    const words = new BigInt64Array(this.#map.mmap(true), at, wanted.length);
    for (const [i, word] of wanted.entries()) if (words[i] !== word) Atomics.store(words, i, word);
  }

  rows(): [number, V][] {
    const found: [number, V][] = [];
    const { size } = this.#codec;
    const perRow = size / 4;
    for (const [first, values] of this.#map.arrayChunks()) {
      if (isZero(values)) continue;
      const words = new Int32Array(values.buffer, values.byteOffset, values.length / 4);
      let last = -1;
      for (let word = 0; word < words.length; word += 1) {
        const row = Math.floor(word / perRow);
        if (words[word] === 0 || row === last) continue;
        last = row;
        found.push([first + row, this.#codec.decode(new DataView(values.buffer, values.byteOffset + row * size, size))]);
      }
    }
    return found;
  }
}

class KernelSlots implements SlotMap {
  readonly #map: BpfMap;

  constructor(map: BpfMap) {
    this.#map = map;
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries * SLOTS_PER_ROW;
  }

  read(base: number, count: number): number[] {
    inRange(base, count, this);
    return [...new Uint32Array(this.#map.mmap(false), base * 4, count)];
  }

  write(base: number, backendIds: readonly number[]): void {
    inRange(base, backendIds.length, this);
    const held = new Uint32Array(this.#map.mmap(false), base * 4, backendIds.length);
    if (backendIds.every((id, i) => id === held[i])) return;
    new Uint32Array(this.#map.mmap(true), base * 4, backendIds.length).set(backendIds);
  }
}

class KernelRanges implements RangeMap {
  readonly #map: BpfMap;
  readonly #codec: Codec<RangeMapKey>;

  constructor(map: BpfMap, codec: Codec<RangeMapKey>) {
    this.#map = map;
    this.#codec = codec;
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  add(key: RangeMapKey): void {
    this.#map.set(encoded(this.#codec, key), Uint8Array.of(1, 0, 0, 0));
  }

  remove(key: RangeMapKey): void {
    this.#map.delete(encoded(this.#codec, key));
  }

  entries(): RangeMapKey[] {
    return [...this.#map.entries()].map(([key]) => decoded(this.#codec, key));
  }
}

/** The maps that reconcile/ writes. The BpfMaps stay open, and owned by the caller. */
export function kernelMaps(open: OpenMap): LbMaps {
  return {
    frontends: {
      IPv4: new KernelHash(open('lb4_frontends'), { key: lb4KeyCodec, value: lbFrontendCodec }),
      IPv6: new KernelHash(open('lb6_frontends'), { key: lb6KeyCodec, value: lbFrontendCodec }),
    },
    services: new KernelArray(open('lb_services'), lbServiceCodec),
    slots: new KernelSlots(open('lb_slots')),
    backends: {
      IPv4: new KernelArray(open('lb4_backends'), lb4BackendCodec),
      IPv6: new KernelArray(open('lb6_backends'), lb6BackendCodec),
    },
    ranges: {
      IPv4: new KernelRanges(open('lb4_ranges'), lb4RangeKeyCodec),
      IPv6: new KernelRanges(open('lb6_ranges'), lb6RangeKeyCodec),
    },
    host: new KernelArray(open('lb_host'), lbHostCodec),
  };
}
