// SPDX-License-Identifier: Apache-2.0
// What the maps hold, read whole and judged, with no memory of our own: the base of restore, of the canonical dump and of
// what the API shows as realized. Only reads; tolerates any content, since a crash or a stranger may have left it.
import { type Family, families, hostPort } from '../../model/address.ts';
import { type Frontend, scopeOf } from '../../model/frontend.ts';
import { compareText } from '../../model/order.ts';
import { protocolNumbers } from '../../model/service.ts';
import { frontendCheck } from '../frontend-check.ts';
import {
  type ArrayMap,
  type BackendMapValue,
  BackendState,
  FrontendFlag,
  type FrontendMapKey,
  type FrontendMapValue,
  type LbMaps,
  type Range,
  type RangeMapKey,
  type ServiceMapValue,
} from '../types.ts';

const nameOf = (names: Readonly<Record<string, number>>, number: number): string =>
  Object.entries(names).find(([, value]) => value === number)?.[0] ?? `unknown-${number}`;

/** The map key of a desired frontend. */
export function mapKeyOf(frontend: Frontend): FrontendMapKey {
  const { address, port, protocol } = frontend;
  return { address, port, protocol: protocolNumbers[protocol] };
}

/** FrontendFlag bits of a desired frontend. */
export function flagsOf(frontend: Frontend): number {
  const { external, local, ranges, nodePort } = FrontendFlag;
  return (
    (scopeOf(frontend) === 'external' ? external : 0) |
    (frontend.policy === 'Local' ? local : 0) |
    (frontend.hasSourceRanges ? ranges : 0) |
    (frontend.type === 'NodePort' ? nodePort : 0)
  );
}

export interface HeldFrontend {
  readonly family: Family;
  readonly key: FrontendMapKey;
  readonly value: FrontendMapValue;
  /** "10.96.0.10:80/TCP": equal to frontendKey() of the desired frontend. */
  readonly text: string;
  /** FrontendFlag bits. */
  readonly flags: number;
  /** The check is right and the index exists. */
  readonly isSound: boolean;
}

export interface Snapshot {
  /** Sorted by text. */
  readonly frontends: readonly HeldFrontend[];
  /** Rows that are not zero. */
  readonly services: ReadonlyMap<number, ServiceMapValue>;
  /** Source ranges of Service ports, by index; those of no index under 0. */
  readonly ranges: Readonly<Record<Family, ReadonlyMap<number, readonly RangeMapKey[]>>>;
  /** Rows whose id is in use, by id. */
  readonly backends: Readonly<Record<Family, ReadonlyMap<number, BackendMapValue>>>;
}

const stateMask = 0xff;

export const stateOf = (meta: number): number => meta & stateMask;
export const generationOf = (meta: number): number => meta >>> 8;

/** Reads everything. Throws what the maps throw. */
export function readSnapshot(maps: LbMaps): Snapshot {
  const frontends = families.flatMap((family) => maps.frontends[family].entries().map((entry) => heldFrontend(maps, family, entry)));
  const services = rowsOf(maps.services, isInUse);
  const inUse = (row: BackendMapValue): boolean => stateOf(row.meta) !== 0;
  return {
    frontends: frontends.sort((a, b) => compareText(a.text, b.text)),
    services,
    ranges: { IPv4: portRanges(maps, 'IPv4'), IPv6: portRanges(maps, 'IPv6') },
    backends: { IPv4: rowsOf(maps.backends.IPv4, inUse), IPv6: rowsOf(maps.backends.IPv6, inUse) },
  };
}

/** Sets with this bit are the node's, not a Service port's: host-operations.ts. */
const hostSets = 0x8000_0000;

/** By service index. Keys of sets that no index can have come under 0. */
const portRanges = (maps: LbMaps, family: Family): Map<number, RangeMapKey[]> =>
  Map.groupBy(
    maps.ranges[family].entries().filter((key) => key.set < hostSets),
    (key) => (key.set < maps.services.capacity ? key.set : 0),
  );

/** Not all zeros. */
export const isInUse = (row: ServiceMapValue): boolean =>
  row.base !== 0 || row.count !== 0 || row.localBase !== 0 || row.localCount !== 0 || row.affinity !== 0;

export const isSameService = (a: ServiceMapValue, b: ServiceMapValue): boolean =>
  a.base === b.base && a.count === b.count && a.localBase === b.localBase && a.localCount === b.localCount && a.affinity === b.affinity;

/** The slots that a row's sets lie in. */
export function rangeOf(row: ServiceMapValue): Range {
  const sets = [
    { base: row.base, count: row.count },
    { base: row.localBase, count: row.localCount },
  ].filter((set) => set.count > 0);
  const base = Math.min(...sets.map((set) => set.base));
  return sets.length === 0 ? { base: row.base, count: 0 } : { base, count: Math.max(...sets.map((set) => set.base + set.count)) - base };
}

/** As frontendKey(), of what may be any protocol. */
export const heldText = (key: FrontendMapKey): string => `${hostPort(key.address, key.port)}/${nameOf(protocolNumbers, key.protocol)}`;

/** An entry of the frontend hash, judged. */
export function heldFrontend(maps: LbMaps, family: Family, [key, value]: [FrontendMapKey, FrontendMapValue]): HeldFrontend {
  const isSound = value.service > 0 && value.service < maps.services.capacity && value.meta >>> 8 === frontendCheck(key);
  return { family, key, value, text: heldText(key), flags: value.meta & 0xff, isSound };
}

/** Index 0 is never used. */
function rowsOf<V>(map: ArrayMap<V>, isKept: (row: V) => boolean): Map<number, V> {
  return new Map(map.rows().filter(([index, row]) => index !== 0 && isKept(row)));
}

/** The backend ids of a run; undefined when it lies outside the slots. */
export function readRun(maps: LbMaps, run: Range): number[] | undefined {
  return run.base + run.count > maps.slots.capacity ? undefined : maps.slots.read(run.base, run.count);
}

/** A CIDR in the set of that number as the trie holds it. */
export function rangeMapKey(set: number, cidr: string): RangeMapKey {
  const [address = '', length = ''] = cidr.split('/');
  return { prefix: 32 + Number(length), set, address };
}

/** "10.0.0.0/8". */
export const cidrText = ({ address, prefix }: RangeMapKey): string => `${address}/${prefix - 32}`;

/** "usable,locally-usable,local,serving"; "-" when none of them holds. */
export function stateText(meta: number): string {
  const { usable, locallyUsable, local, serving } = BackendState;
  const names = Object.entries({ usable, 'locally-usable': locallyUsable, local, serving }).filter(([, bit]) => (meta & bit) !== 0);
  return names.length === 0 ? '-' : names.map(([name]) => name).join(',');
}

/** "internal", "external local ranges". */
export function flagsText(flags: number): string {
  const { external, local, ranges, nodePort } = FrontendFlag;
  const words = Object.entries({ local, ranges, 'node-port': nodePort }).filter(([, bit]) => (flags & bit) !== 0);
  return [(flags & external) === 0 ? 'internal' : 'external', ...words.map(([name]) => name)].join(' ');
}
