// SPDX-License-Identifier: Apache-2.0
// Repairs drift: compares the maps with LbState and writes back what another program changed. The order is that of an update:
// backends, slots, the service row, frontends. An unknown frontend entry is not deleted here. It is recorded as a leftover, and
// prune deletes it. Each step handles one Service port, so that the caller can run other work between steps. Called by
// LbOperations.
import { families } from '../../model/address.ts';
import { frontendMeta } from '../../maps/frontend-check.ts';
import type { LbMaps } from '../../maps/types.ts';
import { type LbState, type LivePort, rowOf } from './lb-state.ts';
import { frontendEntry } from '../../maps/read/snapshot.ts';
import { cidrText, mapKeyText } from '../../maps/rows.ts';

/** Keys of a frontend map that are compared in one step: 0.1 ms. */
const KEYS_PER_STEP = 64;

/** Yields the messages of each step, one per repair. After an error from a map call, start again with a new generator. */
export function* repairDrift(state: LbState, maps: LbMaps): Generator<string[], void> {
  yield repairRanges(state, maps);
  for (const port of [...state.ports.values()]) {
    // A port that was deleted since the first step is skipped.
    if (state.ports.get(port.key) === port) yield repairPort(maps, port);
  }
  for (const family of families) {
    let count = 0;
    for (const key of maps.frontends[family].keys()) {
      count += 1;
      if (count % KEYS_PER_STEP === 0) yield [];
      const text = mapKeyText(key);
      if (state.owners.has(text) || state.leftovers.frontends.has(text)) continue;
      // The entry may have been deleted since the keys were read.
      const value = maps.frontends[family].get(key);
      if (value === undefined) continue;
      // The service index may be invalid, so `isSound` is false. Such a leftover does not delay the release of its index.
      state.leftovers.frontends.set(text, { ...frontendEntry(maps, family, [key, value]), isSound: false });
      state.pools.frontendCounts[family] += 1;
      yield [`${maps.frontends[family].name}: entry ${text} belonged to no Service port`];
    }
  }
}

function repairPort(maps: LbMaps, port: LivePort): string[] {
  const { key, run, family } = port;
  const repaired: string[] = [];
  const backends = maps.backends[family];
  for (const backend of port.backends.values()) {
    const wanted = rowOf(port, backend, backend.state);
    if (backends.holds(backend.id, wanted)) continue;
    backends.set(backend.id, wanted);
    repaired.push(`${key}: row ${backend.id} of ${backends.name} was changed`);
  }
  if (run.ids !== undefined) {
    const actual = maps.slots.read(run.base, run.count);
    if (run.ids.some((id, i) => id !== actual[i])) {
      maps.slots.write(run.base, run.ids);
      repaired.push(`${key}: the slots of ${maps.slots.name} that start at index ${run.base} were changed`);
    }
    if (!maps.services.holds(port.index, port.row)) {
      maps.services.set(port.index, port.row);
      repaired.push(`${key}: row ${port.index} of ${maps.services.name} was changed`);
    }
  }
  return [...repaired, ...repairFrontends(maps, port)];
}

function repairFrontends(maps: LbMaps, port: LivePort): string[] {
  const repaired: string[] = [];
  const map = maps.frontends[port.family];
  for (const [text, { mapKey, flags }] of port.frontends) {
    const wanted = { service: port.index, meta: frontendMeta(mapKey, flags) };
    const actual = map.get(mapKey);
    if (actual?.service === wanted.service && actual.meta === wanted.meta) continue;
    map.set(mapKey, wanted);
    repaired.push(`${port.key}: entry ${text} of ${map.name} ${actual === undefined ? 'was missing' : 'was changed'}`);
  }
  return repaired;
}

/**
 * Repairs all source ranges in one step. It lists each trie, because a lookup returns the longest matching prefix and cannot check
 * a single entry.
 */
function repairRanges(state: LbState, maps: LbMaps): string[] {
  const repaired: string[] = [];
  for (const family of families) {
    const map = maps.ranges[family];
    const owners = new Map([...state.ports.values()].filter((port) => port.family === family).map((port) => [port.index, port]));
    const present = new Set<string>();
    for (const key of map.entries()) {
      const owner = owners.get(key.set);
      // An entry without an owner is a member of an address set (address-set-operations.ts) or belongs to a leftover index (prune.ts).
      if (owner === undefined) continue;
      present.add(`${key.set} ${cidrText(key)}`);
      if (owner.ranges.has(cidrText(key))) continue;
      map.remove(key);
      repaired.push(`${owner.key}: entry ${cidrText(key)} of ${map.name} was not desired`);
    }
    for (const { key, index, ranges } of owners.values()) {
      for (const [cidr, range] of ranges) {
        if (present.has(`${index} ${cidr}`)) continue;
        map.add(range);
        repaired.push(`${key}: entry ${cidr} of ${map.name} was missing`);
      }
    }
  }
  return repaired;
}
