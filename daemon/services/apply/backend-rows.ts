// SPDX-License-Identifier: Apache-2.0
// The backend rows of a Service port, and the run (contiguous slots) that contains their ids. Rows and state bits are added before
// a run is published and removed after that. So a reader of the old run and a reader of the new run both find every backend of
// their run. Used by lb-operations.ts.
import { hostPort } from '../../model/address.ts';
import type { Backend, DesiredPort } from '../../model/frontend.ts';
import { objectKey } from '../../model/object-key.ts';
import { BackendState, type LbMaps, type ServiceMapValue } from '../../maps/types.ts';
import { type LbState, type LiveBackend, type LivePort, noSpace, rowOf } from './lb-state.ts';
import { generationOf } from '../../maps/rows.ts';

/** The backends of a row by "address:port". */
export type WantedBackends = ReadonlyMap<string, Backend>;

const lastGeneration = 0xff_ffff;

export const wantedBackends = (row: DesiredPort): WantedBackends =>
  new Map(row.backends.map((backend) => [hostPort(backend.address, backend.port), backend]));

/**
 * The layout of a run. `keys` lists the backends in this order: only in the Local set, in both sets, only in the Cluster set. Each
 * set is therefore contiguous in the run. `windows` returns the position of both sets in a run that starts at the given base.
 */
export function layOut(wanted: WantedBackends): { keys: string[]; windows: (base: number) => Omit<ServiceMapValue, 'affinity'> } {
  const [localOnly, both, clusterOnly]: [string[], string[], string[]] = [[], [], []];
  for (const [key, { isLocallyUsable, isUsable }] of wanted) {
    if (isLocallyUsable) (isUsable ? both : localOnly).push(key);
    else if (isUsable) clusterOnly.push(key);
  }
  const count = both.length + clusterOnly.length;
  const localCount = localOnly.length + both.length;
  return {
    keys: [...localOnly, ...both, ...clusterOnly],
    windows: (base) => ({
      ...{ base: count === 0 ? 0 : base + localOnly.length, count },
      ...{ localBase: localCount === 0 ? 0 : base, localCount },
    }),
  };
}

export class BackendRows {
  readonly #maps: LbMaps['backends'];
  readonly #state: LbState;

  constructor(maps: LbMaps['backends'], state: LbState) {
    this.#maps = maps;
    this.#state = state;
  }

  /** Throws if there are not enough free rows for the new backends. Writes nothing. */
  requireRoom(port: LivePort, row: DesiredPort, wanted: WantedBackends): void {
    const needs = [...wanted.keys()].filter((key) => !port.backends.has(key)).length;
    if (needs > this.#state.pools.backendIds[port.family].available)
      throw noSpace(this.#maps[port.family], 'rows', { service: objectKey(row), needs });
  }

  /** Adds rows of new backends, and new state bits of known backends. */
  beforePublish(port: LivePort, wanted: WantedBackends): void {
    for (const [key, backend] of wanted) {
      const known = port.backends.get(key);
      if (known === undefined) this.#add(port, key, backend);
      else this.#setState(port, known, known.state | stateBits(backend));
    }
  }

  /** Clears obsolete state bits, and removes the rows of backends that no longer exist. */
  afterPublish(port: LivePort, wanted: WantedBackends): void {
    for (const [key, backend] of port.backends) {
      const desired = wanted.get(key);
      if (desired === undefined) this.#remove(port, key, backend);
      else this.#setState(port, backend, stateBits(desired));
    }
  }

  #add(port: LivePort, key: string, backend: Backend): void {
    const map = this.#maps[port.family];
    const pool = this.#state.pools.backendIds[port.family];
    const id = pool.take();
    // requireRoom() has checked the number of free ids, so an empty pool is a programming error.
    if (id === undefined) throw new Error(`${map.name}: no backend id left for ${port.key}`);
    try {
      const last = generationOf(map.get(id).meta);
      const generation = last === lastGeneration ? 1 : last + 1;
      const added: LiveBackend = { id, address: backend.address, port: backend.port, generation, state: stateBits(backend) };
      map.set(id, rowOf(port, added, added.state));
      port.backends.set(key, added);
    } catch (error) {
      pool.giveBack(id);
      throw error;
    }
  }

  #setState(port: LivePort, backend: LiveBackend, state: number): void {
    if (backend.state === state) return;
    this.#maps[port.family].set(backend.id, rowOf(port, backend, state));
    backend.state = state;
  }

  #remove(port: LivePort, key: string, backend: LiveBackend): void {
    this.#maps[port.family].set(backend.id, rowOf(port, backend, 0));
    port.backends.delete(key);
    this.#state.freeBackendId(port.family, backend.id);
  }
}

function stateBits(backend: Backend): number {
  const { usable, locallyUsable, local, serving, present } = BackendState;
  return (
    present |
    (backend.isUsable ? usable : 0) |
    (backend.isLocallyUsable ? locallyUsable : 0) |
    (backend.isLocal ? local : 0) |
    (backend.isServing ? serving : 0)
  );
}
