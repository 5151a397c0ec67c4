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
  /** Writes only the words that differ. A row of 8 bytes is one atomic store; a longer one is stored word by word, last word last. */
  set(index: number, value: V): void;
  /** Every index and row that is not all zeros, in order: what a reader of a mostly empty array wants. */
  rows(): [number, V][];
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
  /** 0 internal, 1 external. */
  scope: number;
}

export interface FrontendMapValue {
  /** Index into lb_services; 0 is never used. */
  service: number;
  /** frontendCheck() of the key, so that a reader notices a recycled element (design.md, 3.1). */
  check: number;
}

/** lb_services row: the run of slots, published by one 8-byte store. */
export interface ServiceMapValue {
  base: number;
  count: number;
}

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
export const BackendState = { usable: 1, local: 2, serving: 4, present: 8 } as const;

export interface LbMaps {
  readonly frontends: Readonly<Record<Family, HashMap<FrontendMapKey, FrontendMapValue>>>;
  readonly services: ArrayMap<ServiceMapValue>;
  readonly slots: SlotMap;
  readonly backends: Readonly<Record<Family, ArrayMap<BackendMapValue>>>;
}
