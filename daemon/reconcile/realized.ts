// SPDX-License-Identifier: Apache-2.0
// What the kernel would do, per frontend: the read-back that status sets against the desired rows. From the maps alone,
// so it cannot repeat an error of our own memory. Used by main.ts for the API, and by tests.
import type { Family } from '../model/address.ts';
import { BackendState, type LbMaps } from '../maps/types.ts';
import { generationOf, readRun, readSnapshot } from './snapshot.ts';

export interface RealizedBackend {
  readonly id: number;
  readonly generation: number;
  readonly address: string;
  readonly port: number;
  readonly isUsable: boolean;
  readonly isLocal: boolean;
  readonly isServing: boolean;
}

export interface RealizedFrontend {
  /** frontendKey(): "10.96.0.10:80/TCP/internal". */
  readonly key: string;
  readonly family: Family;
  /** Index into lb_services; 0 when the entry is unsound (wrong check, no such index) and leads nowhere. */
  readonly service: number;
  /** What the run names, in order, one per slot. Slots that name no living backend of this index are left out and counted. */
  readonly backends: readonly RealizedBackend[];
  readonly dangling: number;
}

/** Every frontend that the maps hold, sorted by key. Throws what the maps throw. */
export function realized(maps: LbMaps): RealizedFrontend[] {
  const snapshot = readSnapshot(maps);
  return snapshot.frontends.map(({ id: key, family, value, isSound }) => {
    if (!isSound) return { key, family, service: 0, backends: [], dangling: 0 };
    const run = snapshot.services.get(value.service);
    const slots = run === undefined ? [] : (readRun(maps, run) ?? []);
    const backends = slots.flatMap((id) => {
      const row = snapshot.backends[family].get(id);
      return row === undefined || row.service !== value.service ? [] : [realizedBackend(id, row)];
    });
    return { key, family, service: value.service, backends, dangling: slots.length - backends.length };
  });
}

function realizedBackend(id: number, row: { address: string; port: number; meta: number }): RealizedBackend {
  const { address, port, meta } = row;
  const has = (bit: number): boolean => (meta & bit) !== 0;
  return {
    ...{ id, generation: generationOf(meta), address, port },
    isUsable: has(BackendState.usable),
    isLocal: has(BackendState.local),
    isServing: has(BackendState.serving),
  };
}
