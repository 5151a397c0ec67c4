// SPDX-License-Identifier: Apache-2.0
// The load balancer's maps as interfaces. kernel-maps.ts implements them, and test/support/ has a fake and a faulty
// implementation; all three implementations pass one contract suite (test/support/maps-contract.ts). Every call may throw
// KernelError. A set or delete that throws has changed nothing. Used by services/apply/ for writing, and by the status and
// explain/ for reading.
import type { Family } from '../model/address.ts';

/** A BPF hash map. A value is always replaced as a whole. */
export interface HashMap<K, V> {
  readonly name: string;
  /** Maximum number of entries. */
  readonly capacity: number;
  get(key: K): V | undefined;
  /** Inserts or replaces an entry. When the map is full, it throws an error for which isNoSpace() is true. */
  set(key: K, value: V): void;
  /** Deletes an entry. Deleting a missing key succeeds. */
  delete(key: K): void;
  entries(): [K, V][];
  /** All keys, read in batches while the caller iterates. Entries that are added or deleted meanwhile may be included or not. */
  keys(): Iterable<K>;
}

/** A BPF array that can be mapped into memory. Every row is all zeros until it is set. An index outside of the array throws RangeError. */
export interface ArrayMap<V> {
  readonly name: string;
  readonly capacity: number;
  get(index: number): V;
  /** Whether the row at the index equals this value. Cheaper than get(). */
  holds(index: number, value: V): boolean;
  /** Writes only the 64-bit words that differ, in order, each by one atomic store. */
  set(index: number, value: V): void;
  /** Indices and rows that are not all zeros, in order. With `range`, only those from index `base` to `base + count - 1`. */
  rows(range?: Range): [number, V][];
}

/** Number of slots in one element of the slot array; see datapath/lib/backend.h. */
export const SLOTS_PER_ROW = 16;

/** Contiguous slots: the run of a Service port, or a free range between runs. */
export interface Range {
  readonly base: number;
  readonly count: number;
}

/** The slot array as one sequence of backend ids. */
export interface SlotMap {
  readonly name: string;
  readonly capacity: number;
  read(base: number, count: number): number[];
  write(base: number, backendIds: readonly number[]): void;
}

/** Key of lb4_frontends and lb6_frontends. */
export interface FrontendMapKey {
  /** Canonical address text. */
  address: string;
  /** The port in host byte order; in the map it is in network byte order. */
  port: number;
  /** IPPROTO number. */
  protocol: number;
}

export interface FrontendMapValue {
  /** Index into lb_services; 0 is never used. */
  service: number;
  /** frontendCheck() of the key << 8 | FrontendFlag bits. The check reveals that the kernel reused the element for another key. */
  meta: number;
}

/** Bits of FrontendMapValue.meta's low byte; enum frontend_flags in datapath/lib/types.h. */
export const FrontendFlag = { external: 1, local: 2, ranges: 4, nodePort: 8 } as const;

/** Row of lb_services: the slots of policy Cluster and those of policy Local, in one run. One 64-bit store publishes each set. */
export interface ServiceMapValue {
  base: number;
  count: number;
  localBase: number;
  localCount: number;
  /** Timeout of ClientIP affinity in seconds; 0: no affinity. */
  affinity: number;
}

/** Key of lb4_ranges and lb6_ranges. Only the presence of a key counts; the value is not read. */
export interface RangeMapKey {
  /** Prefix length of the trie: 32 bits of the set number plus the length of the CIDR. */
  prefix: number;
  /** AddressSetNumber, or the service index that the source range belongs to. */
  set: number;
  address: string;
}

/** Numbers of sets that belong to no Service port; enum address_set in datapath/lib/types.h. */
export const AddressSetNumber = { node: 0x8000_0000, pod: 0x8000_0001, clusterIP: 0x8000_0002, serviceCIDR: 0x8000_0003 } as const;

/** Row 0 of lb_host. An address of all zeros means that the address is unknown. */
export interface HostMapValue {
  address4: string;
  /** HostFlag bits. */
  flags: number;
  address6: string;
  /** Cookie of the node's network namespace. */
  netns: bigint;
  /** First and last cluster address as numbers. IPv6: the upper 64 bits. */
  cluster4First: bigint;
  cluster4Last: bigint;
  cluster6First: bigint;
  cluster6Last: bigint;
  /** Two ranges of source ports for masqueraded flows. */
  snatFirst: number[];
  snatCount: number[];
  /** Mark of translated packets; 0: none. */
  forwardMark: number;
  /** flow_now() when source addresses were last removed. */
  sourcesChanged: number;
}

/** Bits of HostMapValue.flags; enum host_flags in datapath/lib/types.h. */
export const HostFlag = {
  ...{ detectCidr4: 1, detectCidr6: 2, detectInterface4: 4, detectInterface6: 8 },
  ...{ masqueradeAll: 16, tcPods: 32, tcNode: 64 },
} as const;

/** Row of lb4_backends and lb6_backends. A row of all zeros means that the id was never used. */
export interface BackendMapValue {
  address: string;
  port: number;
  /** Index of the owner in lb_services. */
  service: number;
  /**
   * generation << 8 | BackendState bits. The generation is kept when the id is freed (state 0), so that the next use of the id
   * gets another generation.
   */
  meta: number;
}

/** Bits of BackendMapValue.meta's low byte; enum backend_state in datapath/lib/types.h. */
export const BackendState = { usable: 1, local: 2, serving: 4, present: 8, locallyUsable: 16 } as const;

export interface LbMaps {
  readonly frontends: Readonly<Record<Family, HashMap<FrontendMapKey, FrontendMapValue>>>;
  readonly services: ArrayMap<ServiceMapValue>;
  readonly slots: SlotMap;
  readonly backends: Readonly<Record<Family, ArrayMap<BackendMapValue>>>;
  readonly ranges: Readonly<Record<Family, RangeMap>>;
  readonly host: ArrayMap<HostMapValue>;
}

/** Row of lb_devices. */
export interface DeviceMapValue {
  routeDev: number;
  /** Six bytes; zeros if the device is not a port of a bridge. */
  bridgeMac: Uint8Array;
  /** DeviceFlag bits. */
  flags: number;
}

/** Bits of DeviceMapValue.flags; enum device_flags in datapath/lib/types.h. */
export const DeviceFlag = { bridgePort: 1, strictSource: 2, sourceRules: { IPv4: 4, IPv6: 8 } } as const;

/** The map lb_devices by ifindex. */
export type DeviceMap = HashMap<number, DeviceMapValue>;

/** Key of lb4_sources and lb6_sources. */
export interface SourceMapKey {
  /** Prefix length of the trie: 32 bits of the device plus the length of the CIDR. */
  prefix: number;
  ifindex: number;
  address: string;
}

/** The source addresses of masqueraded packets. */
export type SourceMaps = Readonly<Record<Family, HashMap<SourceMapKey, { address: string }>>>;

/** An LPM trie of address sets. Adding an existing key and removing a missing key succeed. */
export interface RangeMap {
  readonly name: string;
  readonly capacity: number;
  /** When the map is full, it throws an error for which isNoSpace() is true. */
  add(key: RangeMapKey): void;
  remove(key: RangeMapKey): void;
  entries(): RangeMapKey[];
}

/** How full a map is. Deleted entries in their grace period count as used. */
export interface MapPressure {
  readonly map: string;
  readonly used: number;
  readonly capacity: number;
}
