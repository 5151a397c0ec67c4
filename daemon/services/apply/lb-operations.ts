// SPDX-License-Identifier: Apache-2.0
// Makes the load balancer's maps hold one DesiredPort: update, delete, prune. The order of every write keeps the datapath
// whole at each step (design.md, 3.1 and 3.3): backends, slots of a fresh run, ONE publish, frontends; deletion in reverse.
// Every operation is idempotent and may fail at any call: our memory changes only after the call it describes succeeded.
import type { Clock } from '../../base/clock.ts';
import { KernelError } from '../../base/errors.ts';
import { families } from '../../model/address.ts';
import { type DesiredPort, type Frontend, frontendKey } from '../../model/frontend.ts';
import { objectKey } from '../../model/object-key.ts';
import type { TableView } from '../../table/table.ts';
import { frontendMeta } from '../../maps/frontend-check.ts';
import { FrontendFlag, type LbMaps, type RangeMapKey, type ServiceMapValue } from '../../maps/types.ts';
import { BackendRows, layOut, type WantedBackends, wantedBackends } from './backend-rows.ts';
import { mendDrift } from './drift.ts';
import { blankLeftover, type LbState, type LiveFrontend, type LivePort, noRun, noService, noSpace } from './lb-state.ts';
import { indicesLedTo, pruneLeftovers } from './prune.ts';
import type { Operations } from '../../table/reconciler.ts';
import { adopt, restoreState } from './restore.ts';
import { flagsOf, isInUse, isSameService, mapKeyOf, rangeMapKey } from '../../maps/read/snapshot.ts';

export interface LbOperationsOptions {
  readonly maps: LbMaps;
  readonly clock: Clock;
  /** How long what was freed rests before it is handed out again. 1 s unless told. */
  readonly graceMs?: number;
}

/** How full a map is. What waits out its grace period counts as used. */
export interface MapPressure {
  readonly map: string;
  readonly used: number;
  readonly capacity: number;
}

export class LbOperations implements Operations<string, DesiredPort> {
  readonly #maps: LbMaps;
  readonly #time: { clock: Clock; graceMs: number };
  #restored: { readonly state: LbState; readonly rows: BackendRows } | undefined;

  constructor({ maps, clock, graceMs = 1000 }: LbOperationsOptions) {
    this.#maps = maps;
    this.#time = { clock, graceMs };
  }

  /** Reads the maps into a fresh memory. Writes nothing. */
  restore(): void {
    const state = restoreState(this.#maps, this.#time);
    this.#restored = { state, rows: new BackendRows(this.#maps.backends, state) };
  }

  update(row: DesiredPort): void {
    if (row.frontends.length === 0) {
      // Nobody can reach it, and without a frontend its index would have no name.
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
    // Ranges before the frontends that ask for them, and after those that did.
    const ranges = new Map(row.sourceRanges.map((cidr) => [cidr, rangeMapKey(port.index, cidr)]));
    for (const [cidr, range] of ranges) if (!port.ranges.has(cidr)) this.#addRange(port, cidr, range);
    this.#pointFrontends(port, row);
    for (const [cidr, range] of port.ranges) if (!ranges.has(cidr)) this.#removeRange(port, cidr, range);
    this.#rows.settle(port, wanted);
  }

  delete(key: string): void {
    const state = this.#state;
    const port = state.ports.get(key);
    if (port === undefined) return;
    for (const [text, frontend] of port.frontends) this.#removeFrontend(port, text, frontend);
    if (isInUse(port.row)) this.#replaceRow(port, noService, noRun);
    this.#rows.settle(port, new Map());
    for (const [cidr, range] of port.ranges) this.#removeRange(port, cidr, range);
    state.ports.delete(key);
    // Another entry that an earlier process left may lead here still: then the index is freed with it, by prune.
    if (indicesLedTo(state.leftovers).has(port.index)) {
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

  mend(): Iterator<string[], void> {
    return mendDrift(this.#state, this.#maps);
  }

  freed(): number {
    this.#state.quarantine.releaseDue();
    return this.#state.freed;
  }

  freesAt(): number | undefined {
    return this.#state.quarantine.nextDue;
  }

  /** Used and capacity of each map, for metrics; nothing before restore. Of the tries, what Service ports use. */
  pressure(): MapPressure[] {
    if (this.#restored === undefined) return [];
    const { pools, quarantine } = this.#state;
    quarantine.releaseDue();
    const { frontends, services, slots, backends, ranges } = this.#maps;
    const ports = [...this.#state.ports.values()];
    const row = (map: { name: string; capacity: number }, used: number): MapPressure => ({ map: map.name, used, capacity: map.capacity });
    return [
      ...families.map((family) => row(frontends[family], pools.frontendCounts[family])),
      row(services, pools.indices.used),
      row(slots, pools.runs.used),
      ...families.map((family) => row(backends[family], pools.backendIds[family].used)),
      ...families.map((family) =>
        row(
          ranges[family],
          ports.filter((port) => port.family === family).reduce((sum, port) => sum + port.ranges.size, 0),
        ),
      ),
    ];
  }

  /** Key of the DesiredPort by service index; "" for an index that an earlier process left and nobody has adopted yet. */
  owners(): Map<number, string> {
    const owners = new Map<number, string>();
    for (const index of this.#restored?.state.leftovers.services.keys() ?? []) owners.set(index, '');
    for (const port of this.#restored?.state.ports.values() ?? []) owners.set(port.index, port.key);
    return owners;
  }

  get #live(): { readonly state: LbState; readonly rows: BackendRows } {
    if (this.#restored === undefined) throw new Error('LbOperations is used before restore() succeeded');
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

  /** Undoes #create: the index was never visible, so it needs no grace. */
  #forget(port: LivePort): void {
    this.#state.ports.delete(port.key);
    this.#state.pools.indices.giveBack(port.index);
  }

  /** A Service port that cannot get a frontend should not take slots and ids from others. */
  #requireFrontendRoom(row: DesiredPort): void {
    const { owners, leftovers, pools } = this.#state;
    const map = this.#maps.frontends[row.family];
    const isNew = (key: string): boolean => !owners.has(key) && !leftovers.frontends.has(key);
    const needs = row.frontends.filter((frontend) => isNew(frontendKey(frontend))).length;
    if (pools.frontendCounts[row.family] + needs > map.capacity) throw noSpace(map, 'entries', { service: objectKey(row), needs });
  }

  /** Brings backends and their sets up to the row, each set in one switch. Until then the old run and rows stay whole. */
  #publish(port: LivePort, row: DesiredPort, wanted: WantedBackends): void {
    this.#rows.requireRoom(port, row, wanted);
    const { keys, windows } = layOut(wanted);
    const idOf = (key: string): number => port.backends.get(key)?.id ?? 0;
    const { ids } = port.run;
    const isCurrent = ids?.length === keys.length && keys.every((key, i) => idOf(key) === ids[i]);
    const base = isCurrent ? port.run.base : keys.length === 0 ? 0 : this.#takeRun(row, keys.length);
    const fresh = { base, count: keys.length };
    try {
      this.#rows.raise(port, wanted);
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

  /** Frontends whose policy is no more Local let go of that set before it is emptied; to gain it comes after the publish. */
  #releaseFromLocal(port: LivePort, row: DesiredPort): void {
    for (const frontend of row.frontends) {
      const held = port.frontends.get(frontendKey(frontend));
      if (held === undefined || (held.flags & ~flagsOf(frontend) & FrontendFlag.local) === 0) continue;
      this.#setFrontend(port, { ...frontend, hasSourceRanges: frontend.hasSourceRanges && (held.flags & FrontendFlag.ranges) !== 0 }, row);
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
    // Removals first: on a full map they make the room.
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
      throw isFull(error) ? nameFull(error, map, `${objectKey(row)} needs ${frontendKey(frontend)}`) : error;
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
      throw isFull(error) ? nameFull(error, map, `${port.key} needs ${cidr}`) : error;
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

/** Nothing of it is in the maps. */
const isBlank = ({ row, backends, frontends, ranges }: LivePort): boolean =>
  !isInUse(row) && backends.size === 0 && frontends.size === 0 && ranges.size === 0;

const isFull = (error: unknown): error is KernelError =>
  error instanceof KernelError && (error.code === 'E2BIG' || error.code === 'ENOSPC');

/** The kernel's own "full", with the Service's name. */
function nameFull(cause: KernelError, map: { name: string; capacity: number }, who: string): KernelError {
  const detail = `${map.name} is full: ${map.capacity} entries, ${who}`;
  return new KernelError({ op: cause.op, object: cause.object, errno: cause.errno, code: cause.code, detail }, { cause });
}
