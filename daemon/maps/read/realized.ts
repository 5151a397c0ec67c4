// SPDX-License-Identifier: Apache-2.0
// The realized state of each frontend, read from the maps alone, for comparison with the desired rows. It must not use state of the
// daemon, because it has to reveal errors in that state. Used by the status and by tests.
import type { Family } from '../../model/address.ts';
import { generationOf } from '../rows.ts';
import { BackendState, type LbMaps, type Range } from '../types.ts';
import { readRun, readSnapshot } from './snapshot.ts';

export interface RealizedBackend {
  readonly id: number;
  readonly generation: number;
  readonly address: string;
  readonly port: number;
  readonly isUsable: boolean;
  readonly isLocallyUsable: boolean;
  readonly isLocal: boolean;
  readonly isServing: boolean;
}

export interface RealizedFrontend {
  /** frontendKey(): "10.96.0.10:80/TCP". */
  readonly key: string;
  readonly family: Family;
  /** Index into lb_services; 0 when the programs ignore the entry because its check is wrong or lb_services has no such index. */
  readonly service: number;
  /** FrontendFlag bits. */
  readonly flags: number;
  /** Backends of policy Cluster in slot order, one for each slot. Slots without a backend of this service are omitted; see dangling. */
  readonly backends: readonly RealizedBackend[];
  /** Backends of policy Local, likewise. */
  readonly localBackends: readonly RealizedBackend[];
  /** Number of slots in both sets that name no backend of this service. */
  readonly dangling: number;
}

const none: Range = { base: 0, count: 0 };

/** All frontends in the maps, sorted by key. Throws what the maps throw. */
export function realized(maps: LbMaps): RealizedFrontend[] {
  const snapshot = readSnapshot(maps);
  return snapshot.frontends.map(({ text: key, family, value, flags, isSound }) => {
    if (!isSound) return { key, family, service: 0, flags, backends: [], localBackends: [], dangling: 0 };
    const row = snapshot.services.get(value.service);
    const slotsOf = (run: Range): number[] => (row === undefined ? [] : (readRun(maps, run) ?? []));
    const backendsOf = (slots: readonly number[]): RealizedBackend[] =>
      slots.flatMap((id) => {
        const backend = snapshot.backends[family].get(id);
        return backend === undefined || backend.service !== value.service ? [] : [realizedBackend(id, backend)];
      });
    const [slots, localSlots] = [slotsOf(row ?? none), slotsOf({ base: row?.localBase ?? 0, count: row?.localCount ?? 0 })];
    const [backends, localBackends] = [backendsOf(slots), backendsOf(localSlots)];
    const dangling = slots.length - backends.length + localSlots.length - localBackends.length;
    return { key, family, service: value.service, flags, backends, localBackends, dangling };
  });
}

function realizedBackend(id: number, row: { address: string; port: number; meta: number }): RealizedBackend {
  const { address, port, meta } = row;
  const has = (bit: number): boolean => (meta & bit) !== 0;
  return {
    ...{ id, generation: generationOf(meta), address, port },
    isUsable: has(BackendState.usable),
    isLocallyUsable: has(BackendState.locallyUsable),
    isLocal: has(BackendState.local),
    isServing: has(BackendState.serving),
  };
}
