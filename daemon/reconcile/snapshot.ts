// SPDX-License-Identifier: Apache-2.0
// What the maps hold, read whole and judged, with no memory of our own: the base of restore, of the canonical dump and of
// what the API shows as realized. Only reads; tolerates any content, since a crash or a stranger may have left it.
import { type Family, families, hostPort } from '../model/address.ts';
import type { Frontend } from '../model/frontend.ts';
import type { Protocol } from '../model/service.ts';
import { frontendCheck } from '../maps/frontend-check.ts';
import {
  type ArrayMap,
  type BackendMapValue,
  BackendState,
  type FrontendMapKey,
  type FrontendMapValue,
  type LbMaps,
  type ServiceMapValue,
} from '../maps/types.ts';

/** IPPROTO numbers of what a frontend may carry. */
const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };
const scopeNumbers = { internal: 0, external: 1 } as const;

const nameOf = (names: Readonly<Record<string, number>>, number: number): string =>
  Object.entries(names).find(([, value]) => value === number)?.[0] ?? `unknown-${number}`;

/** The map key of a desired frontend. */
export function mapKeyOf(frontend: Frontend): FrontendMapKey {
  const { address, port, protocol, scope } = frontend;
  return { address, port, protocol: protocolNumbers[protocol], scope: scopeNumbers[scope] };
}

export interface HeldFrontend {
  readonly family: Family;
  readonly key: FrontendMapKey;
  readonly value: FrontendMapValue;
  /** "10.96.0.10:80/TCP". */
  readonly text: string;
  /** "internal", "external". */
  readonly scope: string;
  /** Text and scope: equal to frontendKey() of the desired frontend. */
  readonly id: string;
  /** The check is right and the index exists. */
  readonly isSound: boolean;
}

export interface Snapshot {
  /** Sorted by id. */
  readonly frontends: readonly HeldFrontend[];
  /** Rows that are not zero. */
  readonly services: ReadonlyMap<number, ServiceMapValue>;
  /** Rows whose id is in use, by id. */
  readonly backends: Readonly<Record<Family, ReadonlyMap<number, BackendMapValue>>>;
}

const stateMask = 0xff;

export const stateOf = (meta: number): number => meta & stateMask;
export const generationOf = (meta: number): number => meta >>> 8;

/** Reads everything. Throws what the maps throw. */
export function readSnapshot(maps: LbMaps): Snapshot {
  const frontends = families.flatMap((family) => maps.frontends[family].entries().map((entry) => heldFrontend(maps, family, entry)));
  const services = rowsOf(maps.services, (row) => row.base !== 0 || row.count !== 0);
  const inUse = (row: BackendMapValue): boolean => stateOf(row.meta) !== 0;
  return {
    frontends: frontends.sort((a, b) => (a.id < b.id ? -1 : 1)),
    services,
    backends: { IPv4: rowsOf(maps.backends.IPv4, inUse), IPv6: rowsOf(maps.backends.IPv6, inUse) },
  };
}

/** An entry of the frontend hash, judged. */
export function heldFrontend(maps: LbMaps, family: Family, [key, value]: [FrontendMapKey, FrontendMapValue]): HeldFrontend {
  const text = `${hostPort(key.address, key.port)}/${nameOf(protocolNumbers, key.protocol)}`;
  const scope = nameOf(scopeNumbers, key.scope);
  const isSound = value.service > 0 && value.service < maps.services.capacity && value.check === frontendCheck(key);
  return { family, key, value, text, scope, id: `${text}/${scope}`, isSound };
}

/** Index 0 is never used. */
function rowsOf<V>(map: ArrayMap<V>, isKept: (row: V) => boolean): Map<number, V> {
  return new Map(map.rows().filter(([index, row]) => index !== 0 && isKept(row)));
}

/** The backend ids of a run; undefined when it lies outside the slots. */
export function readRun(maps: LbMaps, run: ServiceMapValue): number[] | undefined {
  return run.base + run.count > maps.slots.capacity ? undefined : maps.slots.read(run.base, run.count);
}

/** "usable,local,serving"; "-" when none of them holds. */
export function stateText(meta: number): string {
  const names = (['usable', 'local', 'serving'] as const).filter((name) => (meta & BackendState[name]) !== 0);
  return names.length === 0 ? '-' : names.join(',');
}
