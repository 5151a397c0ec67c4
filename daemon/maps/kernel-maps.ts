// SPDX-License-Identifier: Apache-2.0
// The load balancer's maps in the kernel: the interfaces of types.ts over pinned BPF maps, with the generated codecs. Arrays are shared
// memory. They must stay mapped read-only until the first difference is written, so that a daemon that has nothing to write has no writable
// mapping. Used by services/apply/ for writing, and by the status and explain/ for reading.
import type { BpfMap } from '../kernel/map.ts';
import { type Codec, decoded, Encoder } from './codec.ts';
import {
  lb4BackendCodec,
  lb4KeyCodec,
  lb4RangeKeyCodec,
  lbDeviceCodec,
  lb4SourceCodec,
  lb4SourceKeyCodec,
  lb6BackendCodec,
  lb6KeyCodec,
  lb6RangeKeyCodec,
  lb6SourceCodec,
  lb6SourceKeyCodec,
  lbFrontendCodec,
  lbHostCodec,
  lbServiceCodec,
} from './gen/layouts.ts';
import {
  type ArrayMap,
  type HashMap,
  type LbMaps,
  type Range,
  type RangeMap,
  type RangeMapKey,
  type SlotMap,
  type DeviceMap,
  type SourceMaps,
  SLOTS_PER_ROW,
} from './types.ts';

/** Opens a map by name. Throws when it does not exist. */
export type OpenMap = (name: string) => BpfMap;

class KernelHash<K, V> implements HashMap<K, V> {
  readonly #map: BpfMap;
  readonly #codecs: { readonly key: Codec<K>; readonly value: Codec<V> };
  readonly #key: Encoder<K>;
  readonly #value: Encoder<V>;

  constructor(map: BpfMap, codecs: { key: Codec<K>; value: Codec<V> }) {
    this.#map = map;
    this.#codecs = codecs;
    this.#key = new Encoder(codecs.key);
    this.#value = new Encoder(codecs.value);
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  get(key: K): V | undefined {
    const bytes = this.#map.get(this.#key.encode(key));
    return bytes === undefined ? undefined : decoded(this.#codecs.value, bytes);
  }

  set(key: K, value: V): void {
    this.#map.set(this.#key.encode(key), this.#value.encode(value));
  }

  delete(key: K): void {
    this.#map.delete(this.#key.encode(key));
  }

  entries(): [K, V][] {
    return [...this.#map.entries()].map(([key, value]) => [decoded(this.#codecs.key, key), decoded(this.#codecs.value, value)]);
  }

  *keys(): Iterable<K> {
    for (const [key] of this.#map.entries()) yield decoded(this.#codecs.key, key);
  }
}

function inRange(index: number, count: number, map: { name: string; capacity: number }): void {
  if (!Number.isInteger(index) || index < 0 || count < 0 || index + count > map.capacity) {
    throw new RangeError(`${map.name} has ${map.capacity} entries, but ${index}..${index + count - 1} was requested`);
  }
}

const zeros = Buffer.alloc(1 << 16);

/** Whether all bytes are zero. It uses memcmp for speed, because most of a large array is zero. `bytes` must not be longer than `zeros`. */
const isZero = (bytes: Uint8Array): boolean => zeros.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;

const LONG = 8; // bytes of a 64-bit word

/** Memory of the rows of an array, with one view of each element type. Creating a view is expensive, so all rows share the views. */
class Memory {
  readonly buffer: ArrayBuffer;
  readonly bytes: DataView;
  readonly words: Uint32Array;
  readonly longs: BigInt64Array;

  constructor(buffer: ArrayBuffer) {
    this.buffer = buffer;
    this.bytes = new DataView(buffer);
    this.words = new Uint32Array(buffer);
    this.longs = new BigInt64Array(buffer);
  }
}

class KernelArray<V> implements ArrayMap<V> {
  readonly #map: BpfMap;
  readonly #codec: Codec<V>;
  /** Bytes from one element to the next. */
  readonly #stride: number;
  /** The row of the last call of set() or holds(). */
  readonly #wanted: Memory;
  #mapped: Memory | undefined;

  constructor(map: BpfMap, codec: Codec<V>) {
    this.#map = map;
    this.#codec = codec;
    this.#stride = Math.ceil(codec.size / LONG) * LONG;
    this.#wanted = new Memory(new ArrayBuffer(this.#stride));
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  get(index: number): V {
    inRange(index, 1, this);
    return this.#codec.decode(this.#memory(false).bytes, index * this.#stride);
  }

  holds(index: number, value: V): boolean {
    const first = this.#encodeWanted(index, value);
    for (let i = 0; i < this.#wanted.longs.length; i += 1) if (!this.#hasWord(first, i)) return false;
    return true;
  }

  set(index: number, value: V): void {
    const first = this.#encodeWanted(index, value);
    const { longs } = this.#wanted;
    for (let i = 0; i < longs.length; i += 1) {
      if (!this.#hasWord(first, i)) Atomics.store(this.#memory(true).longs, first + i, longs[i] ?? 0n);
    }
  }

  rows({ base, count: length }: Range = { base: 0, count: this.capacity }): [number, V][] {
    inRange(base, length, this);
    const end = base + length;
    return this.#map.withMapping((buffer) => {
      const found: [number, V][] = [];
      const { bytes, longs } = new Memory(buffer);
      const perRow = this.#stride / LONG;
      const rowsAtOnce = Math.floor(zeros.length / this.#stride);
      for (let first = base; first < end; first += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, end - first);
        if (isZero(new Uint8Array(buffer, first * this.#stride, count * this.#stride))) continue;
        for (let index = first; index < first + count; index += 1) {
          let at = index * perRow;
          while (at < (index + 1) * perRow && longs[at] === 0n) at += 1;
          if (at < (index + 1) * perRow) found.push([index, this.#codec.decode(bytes, index * this.#stride)]);
        }
      }
      return found;
    });
  }

  /** Encodes a row into #wanted. Returns where it belongs in the array, as an index of 64-bit words. */
  #encodeWanted(index: number, value: V): number {
    inRange(index, 1, this);
    this.#codec.encode(value, this.#wanted.bytes);
    return (index * this.#stride) / LONG;
  }

  /** Whether the array holds word `i` of the wanted row. It compares 32-bit halves, because reading 64 bits creates a bigint. */
  #hasWord(first: number, i: number): boolean {
    const { words } = this.#memory(false);
    const at = 2 * (first + i);
    return words[at] === this.#wanted.words[2 * i] && words[at + 1] === this.#wanted.words[2 * i + 1];
  }

  /** A call with isWritable may unmap the memory that an earlier call returned. */
  #memory(isWritable: boolean): Memory {
    const buffer = this.#map.mmap(isWritable);
    if (this.#mapped?.buffer !== buffer) this.#mapped = new Memory(buffer);
    return this.#mapped;
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
    const current = new Uint32Array(this.#map.mmap(false), base * 4, backendIds.length);
    if (backendIds.every((id, i) => id === current[i])) return;
    new Uint32Array(this.#map.mmap(true), base * 4, backendIds.length).set(backendIds);
  }
}

const present = Uint8Array.of(1, 0, 0, 0);

class KernelRanges implements RangeMap {
  readonly #map: BpfMap;
  readonly #codec: Codec<RangeMapKey>;
  readonly #key: Encoder<RangeMapKey>;

  constructor(map: BpfMap, codec: Codec<RangeMapKey>) {
    this.#map = map;
    this.#codec = codec;
    this.#key = new Encoder(codec);
  }

  get name(): string {
    return this.#map.info.name;
  }

  get capacity(): number {
    return this.#map.info.maxEntries;
  }

  add(key: RangeMapKey): void {
    this.#map.set(this.#key.encode(key), present);
  }

  remove(key: RangeMapKey): void {
    this.#map.delete(this.#key.encode(key));
  }

  entries(): RangeMapKey[] {
    return [...this.#map.entries()].map(([key]) => decoded(this.#codec, key));
  }
}

const ifindexCodec: Codec<number> = {
  name: 'ifindex',
  size: 4,
  offsets: {},
  encode: (ifindex, view, at = 0) => view.setUint32(at, ifindex, true),
  decode: (view, at = 0) => view.getUint32(at, true),
};

/** The map of devices. The BpfMap must stay open, and the caller owns it. */
export const kernelDevices = (open: OpenMap): DeviceMap => new KernelHash(open('lb_devices'), { key: ifindexCodec, value: lbDeviceCodec });

/** The maps of source addresses. The BpfMaps must stay open, and the caller owns them. */
export const kernelSources = (open: OpenMap): SourceMaps => ({
  IPv4: new KernelHash(open('lb4_sources'), { key: lb4SourceKeyCodec, value: lb4SourceCodec }),
  IPv6: new KernelHash(open('lb6_sources'), { key: lb6SourceKeyCodec, value: lb6SourceCodec }),
});

/** Builds the interfaces. The BpfMaps must stay open, and the caller owns them. */
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
