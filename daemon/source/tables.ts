// SPDX-License-Identifier: Apache-2.0
// The tables that sources fill: one per row of the kind registry, the local addresses of the node and the addresses of the API server.
// Built here for the daemon, for dry runs and for tests. Sources write rows through writeRow(), which writes differences only.
import { isDeepStrictEqual } from 'node:util';
import type { ApiServerAddress } from '../model/api-server.ts';
import type { LocalAddress } from '../model/host.ts';
import { type Scheduler, Table } from '../table/table.ts';
import { type Definition, type Kind, kindNames, kinds, type RowOf, type TableNameOf } from './kinds.ts';

/** Tables of API objects. Keys are "namespace/name", or the name alone for kinds without a namespace. */
export type ObjectTables = { readonly [K in Kind as TableNameOf<K>]: Table<string, RowOf<K>> };

export type SourceTables = ObjectTables & {
  /** Keyed by address. Written by netlink/. */
  readonly localAddresses: Table<string, LocalAddress>;
  /** Keyed by apiServerKey(). Written by kubernetes/; empty when the source is a directory. */
  readonly apiServers: Table<string, ApiServerAddress>;
};

/** Empty tables. */
export function sourceTables(schedule: Scheduler): SourceTables {
  const entries = kindNames.map((kind) => [kinds[kind].table, new Table<string, never>(kinds[kind].table, schedule)] as const);
  const objects = Object.fromEntries(entries) as Readonly<Record<TableNameOf<Kind>, Table<string, never>>>;
  return { ...objects, localAddresses: new Table('localAddresses', schedule), apiServers: new Table('apiServers', schedule) };
}

/** The table that holds the rows of this kind. */
export function tableOf<K extends Kind>(tables: ObjectTables, kind: K): Table<string, RowOf<K>> {
  const byName: Readonly<Record<string, unknown>> = tables;
  return byName[kinds[kind].table] as Table<string, RowOf<K>>;
}

/** Makes the row of the object equal to the definition. */
export function writeRow<K extends Kind>(tables: ObjectTables, definition: Definition<K>): void {
  if (!isSameRow(tables, definition)) setRow(tables, definition);
}

/** Whether the row of the object equals the definition. */
export function isSameRow<K extends Kind>(tables: ObjectTables, { kind, key, row }: Definition<K>): boolean {
  const present = tableOf(tables, kind).get(key);
  return present === row || isDeepStrictEqual(present, row);
}

/** Writes the row of the object. The caller knows that it differs. */
export function setRow<K extends Kind>(tables: ObjectTables, { kind, key, row }: Definition<K>): void {
  const table = tableOf(tables, kind);
  if (row === undefined) table.delete(key);
  else table.upsert(key, row);
}
