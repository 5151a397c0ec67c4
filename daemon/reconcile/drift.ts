// SPDX-License-Identifier: Apache-2.0
// Compares the maps with our memory of them and writes what somebody else changed, in the order of every publish: backends,
// slots, the run, frontends. A frontend that nobody made becomes a leftover, for prune. One Service port a step, so that
// the caller can let other work in between.
import { families } from '../model/address.ts';
import { frontendText } from '../model/frontend.ts';
import { frontendCheck } from '../maps/frontend-check.ts';
import type { LbMaps } from '../maps/types.ts';
import { type LbState, type LivePort, rowOf } from './lb-state.ts';
import { heldFrontend, mapKeyOf } from './snapshot.ts';

/** Sentences about what was put back in this step. Throws what the maps throw; begin anew then. */
export function* mendDrift(state: LbState, maps: LbMaps): Generator<string[], void> {
  for (const port of [...state.ports.values()]) {
    // Not one that was deleted since the walk began.
    if (state.ports.get(port.key) === port) yield mendPort(maps, port);
  }
  for (const family of families) {
    for (const key of maps.frontends[family].keys()) {
      // The walk may tell of what is gone by now.
      const value = maps.frontends[family].get(key);
      if (value === undefined) continue;
      const held = heldFrontend(maps, family, [key, value]);
      if (state.owners.has(held.id) || state.leftovers.frontends.has(held.id)) continue;
      // It leads nowhere that we know of: unsound, so that prune takes it alone.
      state.leftovers.frontends.set(held.id, { ...held, isSound: false });
      state.pools.frontendCounts[family] += 1;
      yield [`${maps.frontends[family].name} has ${held.text}, which is nobody's`];
    }
  }
}

function mendPort(maps: LbMaps, port: LivePort): string[] {
  const { key, run, family } = port;
  const mended: string[] = [];
  const backends = maps.backends[family];
  for (const backend of port.backends.values()) {
    const wanted = rowOf(port, backend, backend.state);
    const held = backends.get(backend.id);
    const { address, port: number, service, meta } = held;
    if (address === wanted.address && number === wanted.port && service === wanted.service && meta === wanted.meta) continue;
    backends.set(backend.id, wanted);
    mended.push(`${key}: row ${backend.id} of ${backends.name} had been changed`);
  }
  if (run.ids !== undefined) {
    const held = maps.slots.read(run.base, run.count);
    if (run.ids.some((id, i) => id !== held[i])) {
      maps.slots.write(run.base, run.ids);
      mended.push(`${key}: ${maps.slots.name} from ${run.base} had been changed`);
    }
    const service = maps.services.get(port.index);
    if (service.base !== run.base || service.count !== run.count) {
      maps.services.set(port.index, { base: run.base, count: run.count });
      mended.push(`${key}: row ${port.index} of ${maps.services.name} had been changed`);
    }
  }
  return [...mended, ...mendFrontends(maps, port)];
}

function mendFrontends(maps: LbMaps, port: LivePort): string[] {
  const mended: string[] = [];
  const map = maps.frontends[port.family];
  for (const frontend of port.frontends.values()) {
    const key = mapKeyOf(frontend);
    const wanted = { service: port.index, check: frontendCheck(key) };
    const held = map.get(key);
    if (held?.service === wanted.service && held.check === wanted.check) continue;
    map.set(key, wanted);
    mended.push(`${port.key}: ${map.name} ${held === undefined ? 'had lost' : 'led elsewhere for'} ${frontendText(frontend)}`);
  }
  return mended;
}
