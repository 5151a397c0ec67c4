// SPDX-License-Identifier: Apache-2.0
// In-memory copy of the load balancer's maps: live Service ports, the leftovers of an earlier process, and the allocators. It must
// never contain a change that the maps do not contain: lb-operations.ts, prune.ts and drift.ts change it only after the
// corresponding map call succeeded. restore.ts rebuilds it at start.
import type { Clock } from '../../base/clock.ts';
import { KernelError } from '../../base/errors.ts';
import type { Family } from '../../model/address.ts';
import type { BackendMapValue, FrontendMapKey, Range, RangeMapKey, ServiceMapValue } from '../../maps/types.ts';
import type { IdPool, RunPool } from './pools.ts';
import { Quarantine } from './quarantine.ts';
import type { FrontendEntry } from '../../maps/read/snapshot.ts';

/** The published run of a Service port: contiguous slots with the ids of its backends. */
export interface Run extends Range {
  /** Undefined if the run overlaps another run or exceeds the slots. Such a run is always replaced, and prune frees its slots. */
  readonly ids: readonly number[] | undefined;
}

export const noRun: Run = { base: 0, count: 0, ids: [] };
export const noService: ServiceMapValue = { base: 0, count: 0, localBase: 0, localCount: 0, affinity: 0 };

export interface LiveBackend {
  readonly id: number;
  readonly address: string;
  readonly port: number;
  readonly generation: number;
  /** BackendState bits in the map. */
  state: number;
}

/** An entry of the frontend hash that refers to a live Service port. */
export interface LiveFrontend {
  readonly mapKey: FrontendMapKey;
  /** FrontendFlag bits. */
  readonly flags: number;
}

/** A Service port with a service index. It describes exactly the content of the maps, even after an incomplete update. */
export interface LivePort {
  /** Key of the DesiredPort. */
  readonly key: string;
  /** Index into lb_services. */
  readonly index: number;
  readonly family: Family;
  /** The row of lb_services. */
  row: ServiceMapValue;
  /** The slots with the Cluster set and the Local set of this Service port. */
  run: Run;
  /** By hostPort(). */
  readonly backends: Map<string, LiveBackend>;
  /** Entries that refer to this index, by frontendKey(). */
  readonly frontends: Map<string, LiveFrontend>;
  /** Source ranges by CIDR. */
  readonly ranges: Map<string, RangeMapKey>;
}

/** A service index of an earlier process that no Service port has adopted yet. Its ids and slots stay reserved. */
export interface LeftoverService {
  readonly row: ServiceMapValue;
  /** False if the run overlaps another run or exceeds the slots, see Run.ids. */
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

/** Map entries that restore found and that no Service port has adopted yet. Only prune deletes them. */
export interface Leftovers {
  /** By frontendKey(). */
  readonly frontends: Map<string, FrontendEntry>;
  readonly services: Map<number, LeftoverService>;
  /** Backend rows that do not belong to a service index. */
  strays: StrayBackend[];
  /** Source ranges that belong to no service index. */
  strayRanges: StrayRange[];
  /** Slots of the runs that overlap another run or exceed the slot map. */
  unsoundSlots: Range[];
}

export interface Pools {
  readonly indices: IdPool;
  readonly backendIds: Readonly<Record<Family, IdPool>>;
  readonly runs: RunPool;
  /** Number of entries in the frontend hash of each family. */
  readonly frontendCounts: Record<Family, number>;
}

export class LbState {
  readonly ports = new Map<string, LivePort>();
  /** By frontendKey(): the live port that the entry refers to. */
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

  /** A counter that increases whenever ids, slots or entries become available. */
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

  /** A hash entry needs no grace period: readers detect a recycled entry by its check value. */
  freeFrontend(family: Family): void {
    this.pools.frontendCounts[family] -= 1;
    this.#freedFrontends += 1;
  }
}

/** The map row of a backend with the given state. */
export const rowOf = (owner: LivePort, { address, port, generation }: LiveBackend, state: number): BackendMapValue => ({
  ...{ address, port, service: owner.index },
  meta: ((generation << 8) | state) >>> 0,
});

/** The error of an exhausted allocator. Its message names the map, its capacity and the Service that does not fit. */
export function noSpace(map: { name: string; capacity: number }, unit: string, need: { service: string; needs: number }): KernelError {
  const detail = `${map.name} is full (capacity: ${map.capacity} ${unit}), Service ${need.service} needs ${need.needs}`;
  return new KernelError({ op: 'allocate in', object: map.name, errno: 28, code: 'ENOSPC', detail });
}

/** A leftover index without backends and source ranges. Frontend entries may refer to it. */
export const blankLeftover = (row: ServiceMapValue, isRunSound: boolean): LeftoverService => ({
  ...{ row, isRunSound },
  backends: { IPv4: new Map(), IPv6: new Map() },
  ranges: { IPv4: new Map(), IPv6: new Map() },
});
