// SPDX-License-Identifier: Apache-2.0
// Makes the load balancer's maps hold one DesiredPort: update, delete, prune. The order of every write keeps the datapath
// whole at each step (design.md, 3.1 and 3.3): backends, slots of a fresh run, ONE publish, frontends; deletion in reverse.
// Every operation is idempotent and may fail at any call: our memory changes only after the call it describes succeeded.
import type { Clock } from '../clock.ts';
import { KernelError } from '../errors.ts';
import { families, hostPort } from '../model/address.ts';
import { type Backend, type DesiredPort, type Frontend, frontendKey, frontendText } from '../model/frontend.ts';
import { objectKey } from '../model/service.ts';
import type { TableView } from '../model/table.ts';
import { frontendCheck } from '../maps/frontend-check.ts';
import { BackendState, type LbMaps } from '../maps/types.ts';
import { mendDrift } from './drift.ts';
import { type LbState, type LiveBackend, type LivePort, noRun, noSpace, rowOf, type Run } from './lb-state.ts';
import { indicesLedTo, pruneLeftovers } from './prune.ts';
import type { Operations } from './reconciler.ts';
import { adopt, restoreState } from './restore.ts';
import { generationOf, mapKeyOf } from './snapshot.ts';

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

const lastGeneration = 0xff_ffff;

export class LbOperations implements Operations<string, DesiredPort> {
  readonly #maps: LbMaps;
  readonly #time: { clock: Clock; graceMs: number };
  #restoredState: LbState | undefined;

  constructor({ maps, clock, graceMs = 1000 }: LbOperationsOptions) {
    this.#maps = maps;
    this.#time = { clock, graceMs };
  }

  /** Reads the maps into a fresh memory. Writes nothing. */
  restore(): void {
    this.#restoredState = restoreState(this.#maps, this.#time);
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
    try {
      if (isBlank(port)) this.#requireFrontendRoom(row);
      this.#publish(port, row);
    } catch (error) {
      if (isBlank(port)) this.#forget(port);
      throw error;
    }
    this.#pointFrontends(port, row);
    this.#settleBackends(port, row);
  }

  delete(key: string): void {
    const state = this.#state;
    const port = state.ports.get(key);
    if (port === undefined) return;
    for (const frontend of port.frontends.values()) this.#removeFrontend(port, frontend);
    if (port.run.base !== 0 || port.run.count !== 0) this.#replaceRun(port, noRun);
    for (const [backendKey, backend] of port.backends) this.#removeBackend(port, backendKey, backend);
    state.ports.delete(key);
    // Another entry that an earlier process left may lead here still: then the index is freed with it, by prune.
    if (indicesLedTo(state.leftovers).has(port.index)) {
      const backends = { IPv4: new Map(), IPv6: new Map() };
      state.leftovers.services.set(port.index, { run: { base: 0, count: 0 }, isRunSound: true, backends });
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

  /** Used and capacity of each map, for metrics; nothing before restore. */
  pressure(): MapPressure[] {
    if (this.#restoredState === undefined) return [];
    const { pools, quarantine } = this.#restoredState;
    quarantine.releaseDue();
    const { frontends, services, slots, backends } = this.#maps;
    const row = (map: { name: string; capacity: number }, used: number): MapPressure => ({ map: map.name, used, capacity: map.capacity });
    return [
      ...families.map((family) => row(frontends[family], pools.frontendCounts[family])),
      row(services, pools.indices.used),
      row(slots, pools.runs.used),
      ...families.map((family) => row(backends[family], pools.backendIds[family].used)),
    ];
  }

  /** Key of the DesiredPort by service index; "" for an index that an earlier process left and nobody has adopted yet. */
  owners(): Map<number, string> {
    const owners = new Map<number, string>();
    for (const index of this.#restoredState?.leftovers.services.keys() ?? []) owners.set(index, '');
    for (const port of this.#restoredState?.ports.values() ?? []) owners.set(port.index, port.key);
    return owners;
  }

  get #state(): LbState {
    if (this.#restoredState === undefined) throw new Error('LbOperations is used before restore() succeeded');
    return this.#restoredState;
  }

  #create(row: DesiredPort): LivePort {
    const state = this.#state;
    const index = state.pools.indices.take();
    if (index === undefined) throw noSpace(this.#maps.services, 'rows', { service: objectKey(row), needs: 1 });
    const port: LivePort = { key: row.key, index, family: row.family, run: noRun, backends: new Map(), frontends: new Map() };
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

  /** Brings backends and the run up to the row, in one switch. The old run and every old row stay whole until then. */
  #publish(port: LivePort, row: DesiredPort): void {
    const missing = row.backends.filter((backend) => !port.backends.has(backendKey(backend))).length;
    const map = this.#maps.backends[port.family];
    if (missing > this.#state.pools.backendIds[port.family].available) {
      throw noSpace(map, 'rows', { service: objectKey(row), needs: missing });
    }
    const usable = row.backends.filter((backend) => backend.isUsable);
    const idOf = (backend: Backend): number => port.backends.get(backendKey(backend))?.id ?? 0;
    const { ids } = port.run;
    const isCurrent = ids?.length === usable.length && usable.every((backend, i) => idOf(backend) === ids[i]);
    const base = isCurrent || usable.length === 0 ? 0 : this.#takeRun(row, usable.length);
    const fresh = { base, count: usable.length };
    try {
      for (const backend of row.backends) this.#raiseBackend(port, backend);
      if (isCurrent) return;
      const freshIds = usable.map(idOf);
      if (freshIds.length > 0) this.#maps.slots.write(base, freshIds);
      this.#replaceRun(port, { ...fresh, ids: freshIds });
    } catch (error) {
      if (!isCurrent) this.#state.pools.runs.giveBack(fresh);
      throw error;
    }
  }

  #takeRun(row: DesiredPort, needs: number): number {
    const base = this.#state.pools.runs.take(needs);
    if (base === undefined) throw noSpace(this.#maps.slots, 'slots', { service: objectKey(row), needs });
    return base;
  }

  #replaceRun(port: LivePort, run: Run): void {
    this.#maps.services.set(port.index, { base: run.base, count: run.count });
    if (port.run.ids !== undefined) this.#state.freeSlots(port.run);
    port.run = run;
  }

  /** Before the publish: a new backend gets its row, a known one the state bits it gains. */
  #raiseBackend(port: LivePort, backend: Backend): void {
    const known = port.backends.get(backendKey(backend));
    if (known === undefined) this.#addBackend(port, backend);
    else this.#setState(port, known, known.state | stateBits(backend));
  }

  #addBackend(port: LivePort, backend: Backend): void {
    const map = this.#maps.backends[port.family];
    const pool = this.#state.pools.backendIds[port.family];
    const id = pool.take();
    // #publish has counted; an empty pool here is a broken invariant.
    if (id === undefined) throw new Error(`${map.name}: no id left for ${port.key}`);
    try {
      const last = generationOf(map.get(id).meta);
      const generation = last === lastGeneration ? 1 : last + 1;
      const added: LiveBackend = { id, address: backend.address, port: backend.port, generation, state: stateBits(backend) };
      map.set(id, rowOf(port, added, added.state));
      port.backends.set(backendKey(backend), added);
    } catch (error) {
      pool.giveBack(id);
      throw error;
    }
  }

  /** After the publish: state bits that a backend lost, and the rows of those that are gone. */
  #settleBackends(port: LivePort, row: DesiredPort): void {
    const wanted = new Map(row.backends.map((backend) => [backendKey(backend), backend]));
    for (const [key, backend] of port.backends) {
      const desired = wanted.get(key);
      if (desired === undefined) this.#removeBackend(port, key, backend);
      else this.#setState(port, backend, stateBits(desired));
    }
  }

  #setState(port: LivePort, backend: LiveBackend, state: number): void {
    if (backend.state === state) return;
    this.#maps.backends[port.family].set(backend.id, rowOf(port, backend, state));
    backend.state = state;
  }

  #removeBackend(port: LivePort, key: string, backend: LiveBackend): void {
    this.#maps.backends[port.family].set(backend.id, rowOf(port, backend, 0));
    port.backends.delete(key);
    this.#state.freeBackendId(port.family, backend.id);
  }

  #pointFrontends(port: LivePort, row: DesiredPort): void {
    const wanted = new Set(row.frontends.map(frontendKey));
    // Removals first: on a full map they make the room.
    for (const [key, frontend] of port.frontends) if (!wanted.has(key)) this.#removeFrontend(port, frontend);
    for (const frontend of row.frontends) if (!port.frontends.has(frontendKey(frontend))) this.#addFrontend(port, frontend, row);
  }

  #addFrontend(port: LivePort, frontend: Frontend, row: DesiredPort): void {
    const state = this.#state;
    const key = frontendKey(frontend);
    const mapKey = mapKeyOf(frontend);
    const map = this.#maps.frontends[port.family];
    try {
      map.set(mapKey, { service: port.index, check: frontendCheck(mapKey) });
    } catch (error) {
      throw isFull(error) ? nameFull(error, map, `${objectKey(row)} needs ${frontendText(frontend)}`) : error;
    }
    const before = state.owners.get(key);
    before?.frontends.delete(key);
    if (!state.leftovers.frontends.delete(key) && before === undefined) state.pools.frontendCounts[port.family] += 1;
    state.owners.set(key, port);
    port.frontends.set(key, frontend);
  }

  #removeFrontend(port: LivePort, frontend: Frontend): void {
    const key = frontendKey(frontend);
    this.#maps.frontends[port.family].delete(mapKeyOf(frontend));
    port.frontends.delete(key);
    this.#state.owners.delete(key);
    this.#state.freeFrontend(port.family);
  }
}

const backendKey = (backend: { address: string; port: number }): string => hostPort(backend.address, backend.port);

function stateBits(backend: Backend): number {
  const { usable, local, serving, present } = BackendState;
  return present | (backend.isUsable ? usable : 0) | (backend.isLocal ? local : 0) | (backend.isServing ? serving : 0);
}

/** Nothing of it is in the maps. */
const isBlank = ({ run, backends, frontends }: LivePort): boolean =>
  run.base === 0 && run.count === 0 && backends.size === 0 && frontends.size === 0;

const isFull = (error: unknown): error is KernelError =>
  error instanceof KernelError && (error.code === 'E2BIG' || error.code === 'ENOSPC');

/** The kernel's own "full", with the Service's name. */
function nameFull(cause: KernelError, map: { name: string; capacity: number }, who: string): KernelError {
  const detail = `${map.name} is full: ${map.capacity} entries, ${who}`;
  return new KernelError({ op: cause.op, object: cause.object, errno: cause.errno, code: cause.code, detail }, { cause });
}
