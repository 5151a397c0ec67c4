// SPDX-License-Identifier: Apache-2.0
// Compares the maps with our memory of them and writes what somebody else changed, in the order of every publish: backends,
// slots, the run, frontends. A frontend that nobody made becomes a leftover, for prune. One Service port a step, so that
// the caller can let other work in between.
import { families } from '../../model/address.ts';
import { frontendMeta } from '../../maps/frontend-check.ts';
import type { LbMaps } from '../../maps/types.ts';
import { type LbState, type LivePort, rowOf } from './lb-state.ts';
import { frontendEntry } from '../../maps/read/snapshot.ts';
import { cidrText, mapKeyText } from '../../maps/rows.ts';

/** Sentences about what was put back in this step. Throws what the maps throw; begin anew then. */
export function* mendDrift(state: LbState, maps: LbMaps): Generator<string[], void> {
  yield mendRanges(state, maps);
  for (const port of [...state.ports.values()]) {
    // Not one that was deleted since the walk began.
    if (state.ports.get(port.key) === port) yield mendPort(maps, port);
  }
  for (const family of families) {
    for (const key of maps.frontends[family].keys()) {
      const text = mapKeyText(key);
      if (state.owners.has(text) || state.leftovers.frontends.has(text)) continue;
      // The walk may tell of what is gone by now.
      const value = maps.frontends[family].get(key);
      if (value === undefined) continue;
      // It leads nowhere that we know of: unsound, so that prune takes it alone.
      state.leftovers.frontends.set(text, { ...frontendEntry(maps, family, [key, value]), isSound: false });
      state.pools.frontendCounts[family] += 1;
      yield [`${maps.frontends[family].name} has ${text}, which is nobody's`];
    }
  }
}

function mendPort(maps: LbMaps, port: LivePort): string[] {
  const { key, run, family } = port;
  const mended: string[] = [];
  const backends = maps.backends[family];
  for (const backend of port.backends.values()) {
    const wanted = rowOf(port, backend, backend.state);
    if (backends.holds(backend.id, wanted)) continue;
    backends.set(backend.id, wanted);
    mended.push(`${key}: row ${backend.id} of ${backends.name} had been changed`);
  }
  if (run.ids !== undefined) {
    const held = maps.slots.read(run.base, run.count);
    if (run.ids.some((id, i) => id !== held[i])) {
      maps.slots.write(run.base, run.ids);
      mended.push(`${key}: ${maps.slots.name} from ${run.base} had been changed`);
    }
    if (!maps.services.holds(port.index, port.row)) {
      maps.services.set(port.index, port.row);
      mended.push(`${key}: row ${port.index} of ${maps.services.name} had been changed`);
    }
  }
  return [...mended, ...mendFrontends(maps, port)];
}

function mendFrontends(maps: LbMaps, port: LivePort): string[] {
  const mended: string[] = [];
  const map = maps.frontends[port.family];
  for (const [text, { mapKey, flags }] of port.frontends) {
    const wanted = { service: port.index, meta: frontendMeta(mapKey, flags) };
    const held = map.get(mapKey);
    if (held?.service === wanted.service && held.meta === wanted.meta) continue;
    map.set(mapKey, wanted);
    mended.push(`${port.key}: ${map.name} ${held === undefined ? 'had lost' : 'led elsewhere for'} ${text}`);
  }
  return mended;
}

/** All at once: a trie can be listed, not asked for one entry. */
function mendRanges(state: LbState, maps: LbMaps): string[] {
  const mended: string[] = [];
  for (const family of families) {
    const map = maps.ranges[family];
    const owners = new Map([...state.ports.values()].filter((port) => port.family === family).map((port) => [port.index, port]));
    const held = new Set<string>();
    for (const key of map.entries()) {
      const owner = owners.get(key.set);
      held.add(`${key.set} ${cidrText(key)}`);
      // Of the node's own sets, or of an index that an earlier process left: not ours to judge.
      if (owner === undefined || owner.ranges.has(cidrText(key))) continue;
      map.remove(key);
      mended.push(`${owner.key}: ${map.name} had ${cidrText(key)}, which is not wanted`);
    }
    for (const { key, index, ranges } of owners.values()) {
      for (const [cidr, range] of ranges) {
        if (held.has(`${index} ${cidr}`)) continue;
        map.add(range);
        mended.push(`${key}: ${map.name} had lost ${cidr}`);
      }
    }
  }
  return mended;
}
