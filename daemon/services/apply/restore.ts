// SPDX-License-Identifier: Apache-2.0
// Rebuilds LbState from the maps, so that ids survive a restart and unchanged input causes no writes. Every entry starts
// as a leftover; a Service port adopts its own leftovers when its row is applied for the first time. Restore must never write, and must
// accept any content that a crash or another program left in the maps. Called by LbOperations.
import type { Clock } from '../../base/clock.ts';
import { families, hostPort } from '../../model/address.ts';
import { type DesiredPort, frontendKey } from '../../model/frontend.ts';
import type { BackendMapValue, LbMaps, Range } from '../../maps/types.ts';
import { blankLeftover, LbState, type LeftoverService, type Leftovers, type LivePort, noService } from './lb-state.ts';
import { IdPool, RunPool } from './pools.ts';
import { readSnapshot, type Snapshot } from '../../maps/read/snapshot.ts';
import { cidrText, generationOf, mapKeyOf, slotRangeOf, stateOf } from '../../maps/rows.ts';

/** A new state in which everything found is a leftover. Throws what the map calls throw. */
export function restoreState(maps: LbMaps, time: { clock: Clock; graceMs: number }): LbState {
  const snapshot = readSnapshot(maps);
  const slots = maps.slots.capacity;
  const runOf = new Map([...snapshot.services].map(([index, row]): [number, Range] => [index, slotRangeOf(row)]));
  const unsound = unsoundRuns(runOf, slots);
  const leftovers = findLeftovers(maps, snapshot, unsound);
  const runs = [...runOf.values()];
  leftovers.unsoundSlots = union(
    [...runOf].filter(([index]) => unsound.has(index)).map(([, run]) => run),
    slots,
  );
  const count = (family: string): number => snapshot.frontends.filter((frontend) => frontend.family === family).length;
  const pools = {
    indices: new IdPool(maps.services.capacity, leftovers.services.keys()),
    backendIds: {
      IPv4: new IdPool(maps.backends.IPv4.capacity, snapshot.backends.IPv4.keys()),
      IPv6: new IdPool(maps.backends.IPv6.capacity, snapshot.backends.IPv6.keys()),
    },
    runs: new RunPool(slots, union(runs, slots)),
    frontendCounts: { IPv4: count('IPv4'), IPv6: count('IPv6') },
  };
  return new LbState({ pools, leftovers, ...time });
}

function findLeftovers(maps: LbMaps, snapshot: Snapshot, unsound: ReadonlySet<number>): Leftovers {
  const services = new Map<number, LeftoverService>();
  const at = (index: number): LeftoverService => {
    const known = services.get(index) ?? blankLeftover(snapshot.services.get(index) ?? noService, !unsound.has(index));
    services.set(index, known);
    return known;
  };
  const leftovers: Leftovers = { frontends: new Map(), services, strays: [], strayRanges: [], unsoundSlots: [] };
  for (const frontend of snapshot.frontends) {
    leftovers.frontends.set(frontend.text, frontend);
    if (frontend.isSound) at(frontend.value.service);
  }
  for (const index of snapshot.services.keys()) at(index);
  for (const family of families) {
    for (const [id, row] of snapshot.backends[family]) {
      if (row.service > 0 && row.service < maps.services.capacity) at(row.service).backends[family].set(id, row);
      else leftovers.strays.push({ family, id, row });
    }
    for (const [index, keys] of snapshot.ranges[family]) {
      if (index === 0) leftovers.strayRanges.push(...keys.map((key) => ({ family, key })));
      else for (const key of keys) at(index).ranges[family].set(cidrText(key), key);
    }
  }
  return leftovers;
}

const end = (range: Range): number => range.base + range.count;
const byBase = (a: Range, b: Range): number => a.base - b.base;

/** Indices whose run exceeds the slots or overlaps another run. */
function unsoundRuns(services: ReadonlyMap<number, Range>, capacity: number): Set<number> {
  const unsound = new Set<number>();
  const runs = [...services].filter(([, run]) => run.count > 0).sort(([, a], [, b]) => byBase(a, b));
  let longest = runs[0];
  for (const current of runs) {
    const [index, run] = current;
    if (end(run) > capacity) unsound.add(index);
    if (longest === undefined || longest === current) continue;
    if (run.base < end(longest[1])) unsound.add(index).add(longest[0]);
    if (end(run) > end(longest[1])) longest = current;
  }
  return unsound;
}

/** The slots of all runs, as sorted ranges that do not overlap. */
function union(runs: readonly Range[], capacity: number): Range[] {
  const ranges: Range[] = [];
  for (const run of [...runs].sort(byBase)) {
    const last = ranges.at(-1);
    const base = Math.max(run.base, last === undefined ? 0 : end(last));
    const stop = Math.min(end(run), capacity);
    if (stop > base) ranges.push({ base, count: stop - base });
  }
  return ranges;
}

/**
 * Finds the leftover service index that a frontend of the row refers to, and gives the row that index, its run and its backends.
 * Returns undefined if there is no such index. Of the frontends that refer to the index, only those of the row are adopted. The
 * others remain leftovers until their owner adopts them or prune deletes them.
 */
export function adopt(state: LbState, maps: LbMaps, row: DesiredPort): LivePort | undefined {
  const { frontends, services } = state.leftovers;
  const found = row.frontends.map((frontend) => frontends.get(frontendKey(frontend))).filter((entry) => entry?.isSound === true);
  const index = found.map((entry) => entry?.value.service ?? 0).find((candidate) => services.has(candidate));
  const service = index === undefined ? undefined : services.get(index);
  if (index === undefined || service === undefined) return undefined;
  const run = slotRangeOf(service.row);
  const ids = service.isRunSound ? maps.slots.read(run.base, run.count) : undefined;
  const port: LivePort = {
    ...{ key: row.key, index, family: row.family, row: service.row, run: { ...run, ids } },
    backends: new Map(),
    frontends: new Map(),
    ranges: service.ranges[row.family],
  };
  services.delete(index);
  takeBackends(state, port, { service, ids: ids ?? [] });
  for (const frontend of row.frontends) {
    const key = frontendKey(frontend);
    const entry = frontends.get(key);
    if (entry?.isSound !== true || entry.value.service !== index) continue;
    frontends.delete(key);
    state.owners.set(key, port);
    port.frontends.set(key, { mapKey: mapKeyOf(frontend), flags: entry.flags });
  }
  state.ports.set(port.key, port);
  return port;
}

function takeBackends(state: LbState, port: LivePort, from: { service: LeftoverService; ids: readonly number[] }): void {
  for (const family of families) {
    if (family === port.family) continue;
    for (const [id, row] of from.service.backends[family]) state.leftovers.strays.push({ family, id, row });
  }
  const inRun = new Set(from.ids);
  const rows = [...from.service.backends[port.family]].sort(([a], [b]) => Number(inRun.has(b)) - Number(inRun.has(a)) || a - b);
  for (const [id, row] of rows) {
    const key = hostPort(row.address, row.port);
    // A duplicate row of an address:port gets a key that no desired backend has, so the next update removes it.
    port.backends.set(port.backends.has(key) ? `${key} duplicate ${id}` : key, liveBackend(id, row));
  }
}

const liveBackend = (id: number, { address, port, meta }: BackendMapValue) => ({
  ...{ id, address, port },
  generation: generationOf(meta),
  state: stateOf(meta),
});
