// SPDX-License-Identifier: Apache-2.0
// Writes DesiredPort rows into the load balancer's maps: update, delete, prune, repair. The datapath may read the maps at any
// moment, so every write must leave them consistent. The order is: backend rows, slots of a new run (contiguous slots), the service
// row (one write that publishes the run), frontends. Deletion is the reverse. Every operation is idempotent and may fail at any map
// call; LbState, the in-memory copy of the maps, changes only after the corresponding map call succeeded. Called by the Reconciler.
import type { Clock } from '../../base/clock.ts';
import { KernelError } from '../../base/errors.ts';
import { families, type Family } from '../../model/address.ts';
import { type DesiredPort, type Frontend, frontendKey } from '../../model/frontend.ts';
import { objectKey } from '../../model/object-key.ts';
import type { TableView } from '../../table/table.ts';
import { frontendMeta } from '../../maps/frontend-check.ts';
import { FrontendFlag, type LbMaps, type MapPressure, type RangeMapKey, type ServiceMapValue } from '../../maps/types.ts';
import { BackendRows, layOut, type WantedBackends, wantedBackends } from './backend-rows.ts';
import { repairDrift } from './drift.ts';
import { blankLeftover, type LbState, type LiveFrontend, type LivePort, noRun, noService, noSpace } from './lb-state.ts';
import { type LeftoverResult, pruneLeftovers, referencedIndices, withdrawLeftover } from './prune.ts';
import type { Operations } from '../../table/reconciler.ts';
import { adopt, restoreState } from './restore.ts';
import { flagsOf, isInUse, isSameService, mapKeyOf, rangeMapKey } from '../../maps/rows.ts';

export interface LbOperationsOptions {
  readonly maps: LbMaps;
  readonly clock: Clock;
  /** Grace period before freed ids and slots are reused. Default: 1 s. */
  readonly graceMs?: number;
}

export class LbOperations implements Operations<string, DesiredPort> {
  readonly #maps: LbMaps;
  readonly #time: { clock: Clock; graceMs: number };
  #restored: { readonly state: LbState; readonly rows: BackendRows } | undefined;

  constructor({ maps, clock, graceMs = 1000 }: LbOperationsOptions) {
    this.#maps = maps;
    this.#time = { clock, graceMs };
  }

  /** Rebuilds LbState from the maps. Writes nothing. */
  restore(): void {
    const state = restoreState(this.#maps, this.#time);
    this.#restored = { state, rows: new BackendRows(this.#maps.backends, state) };
  }

  update(row: DesiredPort): void {
    if (row.frontends.length === 0) {
      // A port without frontends is unreachable. After a restart its service index could not be found either, because adopt() finds
      // the index through a frontend.
      this.delete(row.key);
      return;
    }
    const state = this.#state;
    state.quarantine.releaseDue();
    const port = state.ports.get(row.key) ?? adopt(state, this.#maps, row) ?? this.#create(row);
    const wanted = wantedBackends(row);
    try {
      if (isBlank(port)) this.#requireFrontendRoom(row);
      this.#releaseFromLocal(port, row);
      this.#publish(port, row, wanted);
    } catch (error) {
      if (isBlank(port)) this.#forget(port);
      throw error;
    }
    // New ranges are added before the frontends that use them; obsolete ranges are removed after the frontends.
    const ranges = new Map(row.sourceRanges.map((cidr) => [cidr, rangeMapKey(port.index, cidr)]));
    for (const [cidr, range] of ranges) if (!port.ranges.has(cidr)) this.#addRange(port, cidr, range);
    this.#pointFrontends(port, row);
    for (const [cidr, range] of port.ranges) if (!ranges.has(cidr)) this.#removeRange(port, cidr, range);
    this.#rows.afterPublish(port, wanted);
  }

  delete(key: string): void {
    const state = this.#state;
    const port = state.ports.get(key);
    if (port === undefined) return;
    for (const [text, frontend] of port.frontends) this.#removeFrontend(port, text, frontend);
    if (isInUse(port.row)) this.#replaceRow(port, noService, noRun);
    this.#rows.afterPublish(port, new Map());
    for (const [cidr, range] of port.ranges) this.#removeRange(port, cidr, range);
    state.ports.delete(key);
    // A leftover frontend of an earlier process may still refer to the index. In that case, prune frees both.
    if (referencedIndices(state.leftovers).has(port.index)) {
      state.leftovers.services.set(port.index, blankLeftover(noService, true));
    } else state.freeIndex(port.index);
  }

  prune(rows: TableView<string, DesiredPort>): boolean {
    const wanted = new Set<string>();
    if (this.#state.leftovers.frontends.size > 0) {
      for (const [, row] of rows.all()) for (const frontend of row.frontends) wanted.add(frontendKey(frontend));
    }
    return pruneLeftovers(this.#state, this.#maps, (key) => wanted.has(key));
  }

  /**
   * Withdraws the frontend with this frontendKey() if it is a leftover and not a ClusterIP. ClusterIPs, and frontends that this process
   * applied, stay in place.
   */
  withdrawLeftover(key: string, family: Family): LeftoverResult {
    if (this.#restored === undefined) this.restore();
    if (this.#state.owners.has(key)) return { backends: [] };
    return withdrawLeftover(this.#state, this.#maps, { key, family });
  }

  repair(): Iterator<string[], void> {
    return repairDrift(this.#state, this.#maps);
  }

  freed(): number {
    this.#state.quarantine.releaseDue();
    return this.#state.freed;
  }

  freesAt(): number | undefined {
    return this.#state.quarantine.nextDue;
  }

  /**
   * Number of used entries and capacity of each map, for metrics. Empty before restore(). For the tries, only source ranges are counted.
   */
  pressure(): MapPressure[] {
    if (this.#restored === undefined) return [];
    const { pools, quarantine } = this.#state;
    quarantine.releaseDue();
    const { frontends, services, slots, backends, ranges } = this.#maps;
    const rangeCounts = { IPv4: 0, IPv6: 0 };
    for (const port of this.#state.ports.values()) rangeCounts[port.family] += port.ranges.size;
    const row = (map: { name: string; capacity: number }, used: number): MapPressure => ({ map: map.name, used, capacity: map.capacity });
    return [
      ...families.map((family) => row(frontends[family], pools.frontendCounts[family])),
      row(services, pools.indices.used),
      row(slots, pools.runs.used),
      ...families.map((family) => row(backends[family], pools.backendIds[family].used)),
      ...families.map((family) => row(ranges[family], rangeCounts[family])),
    ];
  }

  /** Key of the DesiredPort by service index; "" for a leftover index that no Service port has adopted yet. */
  owners(): Map<number, string> {
    const owners = new Map<number, string>();
    for (const index of this.#restored?.state.leftovers.services.keys() ?? []) owners.set(index, '');
    for (const port of this.#restored?.state.ports.values() ?? []) owners.set(port.index, port.key);
    return owners;
  }

  get #live(): { readonly state: LbState; readonly rows: BackendRows } {
    if (this.#restored === undefined) throw new Error('LbOperations was used before restore() succeeded');
    return this.#restored;
  }

  get #state(): LbState {
    return this.#live.state;
  }

  get #rows(): BackendRows {
    return this.#live.rows;
  }

  #create(row: DesiredPort): LivePort {
    const state = this.#state;
    const index = state.pools.indices.take();
    if (index === undefined) throw noSpace(this.#maps.services, 'rows', { service: objectKey(row), needs: 1 });
    const port: LivePort = {
      ...{ key: row.key, index, family: row.family, row: noService, run: noRun },
      ...{ backends: new Map(), frontends: new Map(), ranges: new Map() },
    };
    state.ports.set(row.key, port);
    return port;
  }

  /** Undoes #create(). The index was never published, so it needs no grace period. */
  #forget(port: LivePort): void {
    this.#state.ports.delete(port.key);
    this.#state.pools.indices.giveBack(port.index);
  }

  /** Throws if the frontends do not fit. The Service port must not occupy slots and ids while it has no frontend. */
  #requireFrontendRoom(row: DesiredPort): void {
    const { owners, leftovers, pools } = this.#state;
    const map = this.#maps.frontends[row.family];
    const isNew = (key: string): boolean => !owners.has(key) && !leftovers.frontends.has(key);
    const needs = row.frontends.filter((frontend) => isNew(frontendKey(frontend))).length;
    if (pools.frontendCounts[row.family] + needs > map.capacity) throw noSpace(map, 'entries', { service: objectKey(row), needs });
  }

  /**
   * Updates the backends, the Cluster set and the Local set. One write of the service row switches both sets. Until this write,
   * the old run and its backend rows stay complete.
   */
  #publish(port: LivePort, row: DesiredPort, wanted: WantedBackends): void {
    this.#rows.requireRoom(port, row, wanted);
    const { keys, windows } = layOut(wanted);
    const idOf = (key: string): number => port.backends.get(key)?.id ?? 0;
    const { ids } = port.run;
    const isCurrent = ids?.length === keys.length && keys.every((key, i) => idOf(key) === ids[i]);
    const base = isCurrent ? port.run.base : keys.length === 0 ? 0 : this.#takeRun(row, keys.length);
    const fresh = { base, count: keys.length };
    try {
      this.#rows.beforePublish(port, wanted);
      const service = { ...windows(base), affinity: row.affinitySeconds };
      if (isCurrent) {
        if (!isSameService(service, port.row)) this.#replaceRow(port, service, port.run);
        return;
      }
      const freshIds = keys.map(idOf);
      if (freshIds.length > 0) this.#maps.slots.write(base, freshIds);
      this.#replaceRow(port, service, { ...fresh, ids: freshIds });
    } catch (error) {
      if (!isCurrent) this.#state.pools.runs.giveBack(fresh);
      throw error;
    }
  }

  /**
   * Frontends that lose policy Local are switched to the Cluster set here, before the Local set changes. Frontends that gain policy
   * Local are switched later, by #pointFrontends().
   */
  #releaseFromLocal(port: LivePort, row: DesiredPort): void {
    for (const frontend of row.frontends) {
      const current = port.frontends.get(frontendKey(frontend));
      if (current === undefined || (current.flags & ~flagsOf(frontend) & FrontendFlag.local) === 0) continue;
      const hasSourceRanges = frontend.hasSourceRanges && (current.flags & FrontendFlag.ranges) !== 0;
      this.#setFrontend(port, { ...frontend, hasSourceRanges }, row);
    }
  }

  #takeRun(row: DesiredPort, needs: number): number {
    const base = this.#state.pools.runs.take(needs);
    if (base === undefined) throw noSpace(this.#maps.slots, 'slots', { service: objectKey(row), needs });
    return base;
  }

  #replaceRow(port: LivePort, row: ServiceMapValue, run: LivePort['run']): void {
    this.#maps.services.set(port.index, row);
    if (port.run !== run && port.run.ids !== undefined) this.#state.freeSlots(port.run);
    port.row = row;
    port.run = run;
  }

  #pointFrontends(port: LivePort, row: DesiredPort): void {
    const wanted = new Set(row.frontends.map(frontendKey));
    // Removes entries before it adds others, because the map may be full.
    for (const [key, frontend] of port.frontends) if (!wanted.has(key)) this.#removeFrontend(port, key, frontend);
    for (const frontend of row.frontends) {
      if (port.frontends.get(frontendKey(frontend))?.flags !== flagsOf(frontend)) this.#setFrontend(port, frontend, row);
    }
  }

  #setFrontend(port: LivePort, frontend: Frontend, row: DesiredPort): void {
    const state = this.#state;
    const key = frontendKey(frontend);
    const [mapKey, flags] = [mapKeyOf(frontend), flagsOf(frontend)];
    const map = this.#maps.frontends[port.family];
    try {
      map.set(mapKey, { service: port.index, meta: frontendMeta(mapKey, flags) });
    } catch (error) {
      throw isFull(error) ? mapFull(error, map, `Service ${objectKey(row)} needs ${frontendKey(frontend)}`) : error;
    }
    const before = state.owners.get(key);
    before?.frontends.delete(key);
    if (!state.leftovers.frontends.delete(key) && before === undefined) state.pools.frontendCounts[port.family] += 1;
    state.owners.set(key, port);
    port.frontends.set(key, { mapKey, flags });
  }

  #addRange(port: LivePort, cidr: string, range: RangeMapKey): void {
    const map = this.#maps.ranges[port.family];
    try {
      map.add(range);
    } catch (error) {
      throw isFull(error) ? mapFull(error, map, `Service port ${port.key} needs ${cidr}`) : error;
    }
    port.ranges.set(cidr, range);
  }

  #removeRange(port: LivePort, cidr: string, range: RangeMapKey): void {
    this.#maps.ranges[port.family].remove(range);
    port.ranges.delete(cidr);
  }

  #removeFrontend(port: LivePort, key: string, { mapKey }: LiveFrontend): void {
    this.#maps.frontends[port.family].delete(mapKey);
    port.frontends.delete(key);
    this.#state.owners.delete(key);
    this.#state.freeFrontend(port.family);
  }
}

/** True if the maps contain nothing that belongs to the port. */
const isBlank = ({ row, backends, frontends, ranges }: LivePort): boolean =>
  !isInUse(row) && backends.size === 0 && frontends.size === 0 && ranges.size === 0;

const isFull = (error: unknown): error is KernelError =>
  error instanceof KernelError && (error.code === 'E2BIG' || error.code === 'ENOSPC');

/**
 * The kernel's error for a full map, with a message that contains the capacity of the map and `need`. `need` says which Service
 * needs which entry.
 */
function mapFull(cause: KernelError, map: { name: string; capacity: number }, need: string): KernelError {
  const detail = `${map.name} is full (capacity: ${map.capacity} entries), ${need}`;
  return new KernelError({ op: cause.op, object: cause.object, errno: cause.errno, code: cause.code, detail }, { cause });
}
