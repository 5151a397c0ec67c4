// SPDX-License-Identifier: Apache-2.0
// The whole content of the maps, read from the maps alone: restore, the canonical dump and the realized state of the API are based on
// it. It must never write a map, and it accepts any content, because a crash or another program may have written it.
import { type Family, families } from '../../model/address.ts';
import { compareText } from '../../model/order.ts';
import { frontendCheck } from '../frontend-check.ts';
import { isInUse, mapKeyText, stateOf } from '../rows.ts';
import type { ArrayMap, BackendMapValue, FrontendMapKey, FrontendMapValue, LbMaps, Range, RangeMapKey, ServiceMapValue } from '../types.ts';

/** An entry of a frontend map. */
export interface FrontendEntry {
  readonly family: Family;
  readonly key: FrontendMapKey;
  readonly value: FrontendMapValue;
  /** "10.96.0.10:80/TCP": equal to frontendKey() of the desired frontend. */
  readonly text: string;
  /** FrontendFlag bits. */
  readonly flags: number;
  /** Whether the check is correct and the service index is within the map. */
  readonly isSound: boolean;
}

export interface Snapshot {
  /** The entries of both frontend maps, sorted by text. */
  readonly frontends: readonly FrontendEntry[];
  /** Rows of lb_services that are not all zeros. */
  readonly services: ReadonlyMap<number, ServiceMapValue>;
  /** Source ranges of Service ports, by service index. Ranges whose index is outside the map are stored under index 0. */
  readonly ranges: Readonly<Record<Family, ReadonlyMap<number, readonly RangeMapKey[]>>>;
  /** Backend rows of the ids that are in use, by id. */
  readonly backends: Readonly<Record<Family, ReadonlyMap<number, BackendMapValue>>>;
}

/** Reads all maps. Throws what the maps throw. */
export function readSnapshot(maps: LbMaps): Snapshot {
  const frontends = families.flatMap((family) => maps.frontends[family].entries().map((entry) => frontendEntry(maps, family, entry)));
  const services = rowsOf(maps.services, isInUse);
  const inUse = (row: BackendMapValue): boolean => stateOf(row.meta) !== 0;
  return {
    frontends: frontends.sort((a, b) => compareText(a.text, b.text)),
    services,
    ranges: { IPv4: portRanges(maps, 'IPv4'), IPv6: portRanges(maps, 'IPv6') },
    backends: { IPv4: rowsOf(maps.backends.IPv4, inUse), IPv6: rowsOf(maps.backends.IPv6, inUse) },
  };
}

/** Numbers from here on are address sets of the node (AddressSetNumber); lower numbers are service indices. */
const firstHostSet = 0x8000_0000;

/** Source ranges by service index. Keys whose index is outside the map are stored under index 0. */
const portRanges = (maps: LbMaps, family: Family): Map<number, RangeMapKey[]> =>
  Map.groupBy(
    maps.ranges[family].entries().filter((key) => key.set < firstHostSet),
    (key) => (key.set < maps.services.capacity ? key.set : 0),
  );

/** A FrontendEntry from a key and a value of the map. */
export function frontendEntry(maps: LbMaps, family: Family, [key, value]: [FrontendMapKey, FrontendMapValue]): FrontendEntry {
  const isSound = value.service > 0 && value.service < maps.services.capacity && value.meta >>> 8 === frontendCheck(key);
  return { family, key, value, text: mapKeyText(key), flags: value.meta & 0xff, isSound };
}

/** The included rows by index, without index 0, which is never used. */
function rowsOf<V>(map: ArrayMap<V>, isIncluded: (row: V) => boolean): Map<number, V> {
  return new Map(map.rows().filter(([index, row]) => index !== 0 && isIncluded(row)));
}

/** The backend ids of a run; undefined when the run is outside the slot array. */
export function readRun(maps: LbMaps, run: Range): number[] | undefined {
  return run.base + run.count > maps.slots.capacity ? undefined : maps.slots.read(run.base, run.count);
}
