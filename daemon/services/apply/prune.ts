// SPDX-License-Identifier: Apache-2.0
// Withdraws the leftovers of an earlier process that no desired row has adopted. As in every deletion, the order is: frontends, the
// service row, backends. It must not be called before every source is complete: with incomplete tables it would withdraw Services
// in use. Called by LbOperations; may be called again at any time.
import { families, type Family } from '../../model/address.ts';
import { FrontendFlag, type LbMaps } from '../../maps/types.ts';
import { type LbState, type Leftovers, noService, type StrayBackend } from './lb-state.ts';
import type { FrontendEntry } from '../../maps/read/snapshot.ts';
import { generationOf, isInUse, slotRangeOf } from '../../maps/rows.ts';

/**
 * Returns true if no leftover remains. After a failure, it continues with the other leftovers and throws all failures at the end as one
 * AggregateError. The next call tries the failed leftovers again. `isWanted` is true for the frontendKey() of a desired row. A leftover
 * frontend with such a key is kept until the row is applied.
 */
export function pruneLeftovers(state: LbState, maps: LbMaps, isWanted: (frontendKey: string) => boolean): boolean {
  const { leftovers } = state;
  const errors: unknown[] = [];
  const succeeds = (task: () => void): boolean => {
    try {
      task();
      return true;
    } catch (error) {
      errors.push(error);
      return false;
    }
  };
  for (const frontend of [...leftovers.frontends.values()]) {
    if (!isWanted(frontend.text)) succeeds(() => pruneFrontend(state, maps, frontend));
  }
  const referenced = referencedIndices(leftovers);
  for (const index of [...leftovers.services.keys()]) if (!referenced.has(index)) succeeds(() => pruneService(state, maps, index));
  leftovers.strays = leftovers.strays.filter((stray) => !succeeds(() => freeBackend(state, maps, stray)));
  leftovers.strayRanges = leftovers.strayRanges.filter(({ family, key }) => !succeeds(() => maps.ranges[family].remove(key)));
  freeUnsoundSlots(state);
  if (errors.length > 0) throw new AggregateError(errors, `${errors.length} leftovers of an earlier process could not be removed`);
  return (
    leftovers.frontends.size +
      leftovers.services.size +
      leftovers.strays.length +
      leftovers.strayRanges.length +
      leftovers.unsoundSlots.length ===
    0
  );
}

/** The result for a leftover frontend. A ClusterIP is not withdrawn; `backends` are the backends of the ClusterIP. */
export type LeftoverResult = 'absent' | 'withdrawn' | { readonly backends: readonly { readonly address: string; readonly port: number }[] };

/**
 * Deletes one leftover frontend, unless it is a ClusterIP. The caller knows that no row will want the frontend, so this may be called
 * before every source is complete.
 */
export function withdrawLeftover(state: LbState, maps: LbMaps, { key, family }: { key: string; family: Family }): LeftoverResult {
  const frontend = state.leftovers.frontends.get(key);
  if (frontend === undefined) return 'absent';
  if (frontend.isSound && (frontend.flags & FrontendFlag.external) === 0) {
    const rows = state.leftovers.services.get(frontend.value.service)?.backends[family].values() ?? [];
    return { backends: [...rows].map(({ address, port }) => ({ address, port })) };
  }
  pruneFrontend(state, maps, frontend);
  // If another program changed the entry after restore, the first call only records its present value. The second call then deletes it.
  const changed = state.leftovers.frontends.get(key);
  if (changed !== undefined) pruneFrontend(state, maps, changed);
  return 'withdrawn';
}

/** Service indices that a leftover frontend refers to. An index must not be freed before the frontend is deleted. */
export function referencedIndices(leftovers: Leftovers): Set<number> {
  return new Set([...leftovers.frontends.values()].filter((entry) => entry.isSound).map((entry) => entry.value.service));
}

function pruneFrontend(state: LbState, maps: LbMaps, frontend: FrontendEntry): void {
  const map = maps.frontends[frontend.family];
  const now = map.get(frontend.key);
  // Another program changed the entry after restore. Record the present value; the next call checks the entry again.
  if (now !== undefined && (now.service !== frontend.value.service || now.meta !== frontend.value.meta)) {
    state.leftovers.frontends.set(frontend.text, { ...frontend, value: now, isSound: false });
    return;
  }
  if (now !== undefined) map.delete(frontend.key);
  state.leftovers.frontends.delete(frontend.text);
  state.freeFrontend(frontend.family);
}

function pruneService(state: LbState, maps: LbMaps, index: number): void {
  const service = state.leftovers.services.get(index);
  if (service === undefined) return;
  const { row, isRunSound, backends, ranges } = service;
  if (isInUse(row)) {
    maps.services.set(index, noService);
    if (isRunSound) state.freeSlots(slotRangeOf(row));
    state.leftovers.services.set(index, { row: noService, isRunSound: true, backends, ranges });
  }
  for (const family of families) {
    for (const [id, backend] of backends[family]) {
      freeBackend(state, maps, { family, id, row: backend });
      backends[family].delete(id);
    }
    for (const [cidr, key] of ranges[family]) {
      maps.ranges[family].remove(key);
      ranges[family].delete(cidr);
    }
  }
  state.leftovers.services.delete(index);
  state.freeIndex(index);
}

function freeBackend(state: LbState, maps: LbMaps, { family, id, row }: StrayBackend): void {
  maps.backends[family].set(id, { ...row, meta: (generationOf(row.meta) << 8) >>> 0 });
  state.freeBackendId(family, id);
}

/** The slots of overlapping runs become free when none of these runs is published any more. */
function freeUnsoundSlots(state: LbState): void {
  const { leftovers, ports } = state;
  if (leftovers.unsoundSlots.length === 0) return;
  if ([...leftovers.services.values()].some((service) => !service.isRunSound)) return;
  if ([...ports.values()].some((port) => port.run.ids === undefined)) return;
  for (const range of leftovers.unsoundSlots) state.freeSlots(range);
  leftovers.unsoundSlots = [];
}
