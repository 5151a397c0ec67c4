// SPDX-License-Identifier: Apache-2.0
// Our own memory of what the maps hold: live Service ports, what an earlier process left, and the allocators. It follows
// the maps: lb-operations.ts and prune.ts change it only after the map call that the change describes has succeeded.
import type { Clock } from '../../base/clock.ts';
import { KernelError } from '../../base/errors.ts';
import type { Family } from '../../model/address.ts';
import type { BackendMapValue, FrontendMapKey, Range, RangeMapKey, ServiceMapValue } from '../../maps/types.ts';
import type { IdPool, RunPool } from './pools.ts';
import { Quarantine } from './quarantine.ts';
import type { FrontendEntry } from '../../maps/read/snapshot.ts';

/** A published run. */
export interface Run extends Range {
  /** Undefined: it overlaps another run or lies outside, so it is always replaced, and prune frees its slots. */
  readonly ids: readonly number[] | undefined;
}

export const noRun: Run = { base: 0, count: 0, ids: [] };
export const noService: ServiceMapValue = { base: 0, count: 0, localBase: 0, localCount: 0, affinity: 0 };

export interface LiveBackend {
  readonly id: number;
  readonly address: string;
  readonly port: number;
  readonly generation: number;
  /** BackendState bits as the map holds them. */
  state: number;
}

/** An entry of the frontend hash that leads to a live Service port. */
export interface LiveFrontend {
  readonly mapKey: FrontendMapKey;
  /** FrontendFlag bits. */
  readonly flags: number;
}

/** A Service port that has a service index: what the maps hold for it, exactly, also after a half-done update. */
export interface LivePort {
  /** Key of the DesiredPort. */
  readonly key: string;
  /** Index into lb_services. */
  readonly index: number;
  readonly family: Family;
  /** The row of lb_services. */
  row: ServiceMapValue;
  /** The slots that the row's sets lie in. */
  run: Run;
  /** By hostPort(). */
  readonly backends: Map<string, LiveBackend>;
  /** By frontendKey(): entries that lead to this index. */
  readonly frontends: Map<string, LiveFrontend>;
  /** Source ranges by CIDR. */
  readonly ranges: Map<string, RangeMapKey>;
}

/** A service index that an earlier process used and no Service port has adopted yet. Its ids and slots stay reserved. */
export interface LeftoverService {
  readonly row: ServiceMapValue;
  /** False: see Run.ids. */
  readonly isRunSound: boolean;
  readonly backends: Readonly<Record<Family, Map<number, BackendMapValue>>>;
  /** Source ranges by CIDR. */
  readonly ranges: Readonly<Record<Family, Map<string, RangeMapKey>>>;
}

export interface StrayBackend {
  readonly family: Family;
  readonly id: number;
  readonly row: BackendMapValue;
}

export interface StrayRange {
  readonly family: Family;
  readonly key: RangeMapKey;
}

/** What restore found and nobody has claimed; only prune withdraws it. */
export interface Leftovers {
  /** By frontendKey(). */
  readonly frontends: Map<string, FrontendEntry>;
  readonly services: Map<number, LeftoverService>;
  /** Backend rows of no index. */
  strays: StrayBackend[];
  /** Source ranges of no index. */
  strayRanges: StrayRange[];
  /** Slots under unsound runs. */
  unsoundSlots: Range[];
}

export interface Pools {
  readonly indices: IdPool;
  readonly backendIds: Readonly<Record<Family, IdPool>>;
  readonly runs: RunPool;
  /** Entries in each family's frontend hash. */
  readonly frontendCounts: Record<Family, number>;
}

export class LbState {
  readonly ports = new Map<string, LivePort>();
  /** frontendKey() -> the live port that the entry leads to. */
  readonly owners = new Map<string, LivePort>();
  readonly leftovers: Leftovers;
  readonly pools: Pools;
  readonly quarantine: Quarantine;
  #freedFrontends = 0;

  constructor(parts: { pools: Pools; leftovers: Leftovers; clock: Clock; graceMs: number }) {
    this.pools = parts.pools;
    this.leftovers = parts.leftovers;
    this.quarantine = new Quarantine(parts.clock, parts.graceMs);
  }

  /** Grows whenever something can be allocated that could not before. */
  get freed(): number {
    return this.quarantine.released + this.#freedFrontends;
  }

  freeIndex(index: number): void {
    this.quarantine.hold(() => this.pools.indices.giveBack(index));
  }

  freeBackendId(family: Family, id: number): void {
    this.quarantine.hold(() => this.pools.backendIds[family].giveBack(id));
  }

  freeSlots(range: Range): void {
    if (range.count > 0) this.quarantine.hold(() => this.pools.runs.giveBack(range));
  }

  /** A hash entry needs no grace: its check tells readers. */
  freeFrontend(family: Family): void {
    this.pools.frontendCounts[family] -= 1;
    this.#freedFrontends += 1;
  }
}

/** The map row of a backend in that state. */
export const rowOf = (owner: LivePort, { address, port, generation }: LiveBackend, state: number): BackendMapValue => ({
  ...{ address, port, service: owner.index },
  meta: ((generation << 8) | state) >>> 0,
});

/** Our own allocators' "full", worded for the operator: names the map, its size and the Service that did not fit. */
export function noSpace(map: { name: string; capacity: number }, unit: string, who: { service: string; needs: number }): KernelError {
  const detail = `${map.name} is full: ${map.capacity} ${unit}, ${who.service} needs ${who.needs}`;
  return new KernelError({ op: 'allocate in', object: map.name, errno: 28, code: 'ENOSPC', detail });
}

/** A leftover of which nothing is in the maps but, perhaps, entries that lead to it. */
export const blankLeftover = (row: ServiceMapValue, isRunSound: boolean): LeftoverService => ({
  ...{ row, isRunSound },
  backends: { IPv4: new Map(), IPv6: new Map() },
  ranges: { IPv4: new Map(), IPv6: new Map() },
});
