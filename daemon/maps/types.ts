// SPDX-License-Identifier: Apache-2.0
// The load balancer's maps as interfaces: what reconcile/ writes and api/ compares. Three implementations: kernel
// (kernel-maps.ts), fake (fake-maps.ts) and, in test/, faulty. One contract suite runs over all of them.
// Every call may throw KernelError; a set or delete that throws has changed nothing.
import type { Family } from '../model/address.ts';

/** A BPF hash map. Values are replaced whole. */
export interface HashMap<K, V> {
  readonly name: string;
  /** Most entries it can hold. */
  readonly capacity: number;
  get(key: K): V | undefined;
  /** Inserts or replaces. Full: isNoSpace(). */
  set(key: K, value: V): void;
  /** Deleting an absent key succeeds. */
  delete(key: K): void;
  entries(): [K, V][];
  /** Every key, read in batches as the caller goes on: what changes meanwhile may be told or not. */
  keys(): Iterable<K>;
}

/** A mmapable BPF array: every index exists, and is all zeros until set. Out of range throws RangeError. */
export interface ArrayMap<V> {
  readonly name: string;
  readonly capacity: number;
  get(index: number): V;
  /** Is this the row? Cheaper than get(). */
  holds(index: number, value: V): boolean;
  /** Writes only the words of 8 bytes that differ, each by one atomic store, in order. */
  set(index: number, value: V): void;
  /** Every index and row that is not all zeros, in order: what a reader of a mostly empty array wants. */
  rows(): [number, V][];
}

/** In one element of the slot array; datapath/lib/backend.h. */
export const SLOTS_PER_ROW = 16;

/** Contiguous slots: a run, or a free range between runs. */
export interface Range {
  readonly base: number;
  readonly count: number;
}

/** The slot array seen as one long row of backend ids. */
export interface SlotMap {
  readonly name: string;
  readonly capacity: number;
  read(base: number, count: number): number[];
  write(base: number, backendIds: readonly number[]): void;
}

/** lb4_frontends, lb6_frontends key. */
export interface FrontendMapKey {
  /** Canonical address text. */
  address: string;
  /** Host order here, network order in the map. */
  port: number;
  /** IPPROTO number. */
  protocol: number;
}

export interface FrontendMapValue {
  /** Index into lb_services; 0 is never used. */
  service: number;
  /** frontendCheck() of the key << 8, so that a reader notices a recycled element (design.md, 3.1), and FrontendFlags. */
  meta: number;
}

/** Bits of FrontendMapValue.meta's low byte; enum frontend_flags in datapath/lib/types.h. */
export const FrontendFlag = { external: 1, local: 2, ranges: 4, nodePort: 8 } as const;

/** lb_services row: the sets of policy Cluster and of policy Local in one run of slots, each published by one 8-byte store. */
export interface ServiceMapValue {
  base: number;
  count: number;
  localBase: number;
  localCount: number;
  /** Seconds of ClientIP affinity; 0: none. */
  affinity: number;
}

/** Key of lb4_ranges, lb6_ranges. Absent and present is all they say: the value is not read. */
export interface RangeMapKey {
  /** 32 for the set, and the length of the CIDR. */
  prefix: number;
  /** AddressSetNumber, or the service index whose source ranges these are. */
  set: number;
  address: string;
}

/** Sets that belong to no Service port; enum address_set in datapath/lib/types.h. */
export const AddressSetNumber = { node: 0x8000_0000, pod: 0x8000_0001, clusterIP: 0x8000_0002, serviceCIDR: 0x8000_0003 } as const;

/** lb_host[0]. Addresses of all zeros: not known. */
export interface HostMapValue {
  address4: string;
  /** HostFlag bits. */
  flags: number;
  address6: string;
  /** Cookie of the node's network namespace. */
  netns: bigint;
  /** Bounds of all cluster addresses as numbers; of IPv6 the upper halves. */
  cluster4First: bigint;
  cluster4Last: bigint;
  cluster6First: bigint;
  cluster6Last: bigint;
  /** Two ranges of source ports for masqueraded flows. */
  snatFirst: number[];
  snatCount: number[];
}

/** Bits of HostMapValue.flags; enum host_flags in datapath/lib/types.h. */
export const HostFlag = {
  ...{ detectCidr4: 1, detectCidr6: 2, detectInterface4: 4, detectInterface6: 8 },
  ...{ masqueradeAll: 16, tcPods: 32, tcNode: 64 },
} as const;

/** lb4_backends, lb6_backends row. All zeros: the id is free and was never used. */
export interface BackendMapValue {
  address: string;
  port: number;
  /** Owning index in lb_services. */
  service: number;
  /** generation << 8 | BackendState bits; kept when the id is freed (state 0), so that the next life has another generation. */
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

/** An LPM trie of address sets. Adding what is there and removing what is not succeeds. */
export interface RangeMap {
  readonly name: string;
  readonly capacity: number;
  /** Full: isNoSpace(). */
  add(key: RangeMapKey): void;
  remove(key: RangeMapKey): void;
  entries(): RangeMapKey[];
}

/** How full a map is. Entries that wait out their grace period count as used. */
export interface MapPressure {
  readonly map: string;
  readonly used: number;
  readonly capacity: number;
}
