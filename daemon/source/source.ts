// SPDX-License-Identifier: Apache-2.0
// What every source is to the rest of the daemon, and how one writes rows: only differences. A source starts once, and
// withdraws nothing that it merely does not know.
import { isDeepStrictEqual } from 'node:util';
import type { EndpointSlice } from '../model/endpoint-slice.ts';
import type { Node } from '../model/node.ts';
import type { Service } from '../model/service.ts';
import type { ServiceCIDR } from '../model/service-cidr.ts';
import type { Table } from '../table/table.ts';
import type { Definition } from './objects.ts';
import type { SourceProblem } from './problems.ts';

/** Keys are "namespace/name"; of nodes and Service CIDRs, the name. */
export interface SourceTables {
  readonly services: Table<string, Service>;
  readonly slices: Table<string, EndpointSlice>;
  readonly nodes: Table<string, Node>;
  readonly serviceCIDRs: Table<string, ServiceCIDR>;
}

export interface Source {
  /** "files /etc/sluice": how status and metrics name it. */
  readonly name: string;
  /** Registers with the tables, and goes on by itself until stop(). */
  start(): Promise<void>;
  /** No row is written after it returned; the rows stay. */
  stop(): Promise<void>;
  /** Reads everything again. */
  rescan(): Promise<void>;
  /** What is wrong now, sorted. */
  problems(): readonly SourceProblem[];
  /** Everything was read, understood and believed: only then may what is not in the tables be pruned. */
  readonly isComplete: boolean;
}

/** Brings the object's row to what the definition says. */
export function writeRow(tables: SourceTables, definition: Definition): void {
  switch (definition.kind) {
    case 'Service':
      return put(tables.services, definition.key, definition.row);
    case 'EndpointSlice':
      return put(tables.slices, definition.key, definition.row);
    case 'Node':
      return put(tables.nodes, definition.key, definition.row);
    case 'ServiceCIDR':
      return put(tables.serviceCIDRs, definition.key, definition.row);
  }
}

function put<Row>(table: Table<string, Row>, key: string, row: Row | undefined): void {
  if (row === undefined) return table.delete(key);
  const present = table.get(key);
  if (present !== row && !isDeepStrictEqual(present, row)) table.upsert(key, row);
}
