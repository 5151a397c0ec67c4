// SPDX-License-Identifier: Apache-2.0
// The dry run: uses the daemon's own controllers to compute the desired rows that a daemon on a given node would have for a directory
// of objects. Needs no daemon, kernel or clock. Synchronous; reads files only. Called by `sluice plan` and dry-explain.ts.
import { HostController } from '../services/controller/host-controller.ts';
import { ServiceController } from '../services/controller/service-controller.ts';
import { readBoundedText } from '../base/bounded-read.ts';
import type { Conflict } from '../services/controller/frontend-owners.ts';
import { ExitCode, InvalidObjectError, ExitError } from '../base/errors.ts';
import { systemReason } from '../base/reasons.ts';
import { type DesiredHost, type DesiredPort, type DesiredRange, hostKey } from '../model/frontend.ts';
import type { HostSettings } from '../model/host.ts';
import { compareText } from '../model/order.ts';
import type { Node } from '../model/node.ts';
import type { Service } from '../model/service.ts';
import { Table } from '../table/table.ts';
import { readObjects } from '../source/files/read-objects.ts';
import { type SourceTables, sourceTables } from '../source/tables.ts';
import { nodeOf, type NodeFile, parseNodeFile } from './node-file.ts';

/** The --node file. */
const MAX_NODE_FILE_BYTES = 2 ** 20;

export interface DryRunInput {
  /** Directory of objects in YAML or JSON. */
  readonly objects: string;
  /** Either the --node FILE, or the name of a node that the objects describe, with its local addresses if they are known. */
  readonly node: { readonly file: string } | { readonly name: string; readonly localAddresses?: readonly string[] };
  readonly settings: HostSettings;
}

export interface DryRun {
  /** The node of the dry run. */
  readonly node: Node;
  /** The rows by DesiredPort.key, sorted by that key. */
  readonly ports: ReadonlyMap<string, DesiredPort>;
  readonly host: DesiredHost;
  /** Members of the address sets, by rangeKey(). */
  readonly ranges: ReadonlyMap<string, DesiredRange>;
  /** Frontends that more than one Service port claims. */
  readonly conflicts: readonly Conflict[];
  /** Services by "namespace/name". */
  readonly services: ReadonlyMap<string, Service>;
  /** One message for each object or file that cannot be used, and for each ignored part of an object. */
  readonly problems: readonly string[];
}

/**
 * Computes the desired rows. Throws ExitError when the directory or the node file cannot be read or is invalid. An invalid object is
 * reported in `problems`.
 */
export function dryRun({ objects, node: given, settings }: DryRunInput): DryRun {
  const tables = sourceTables(noListener);
  const file = 'file' in given ? readNodeFile(given.file) : { name: given.name, ips: undefined, labels: undefined, podCIDRs: undefined };
  const problems = readAll(objects, tables);
  const node = nodeOf(file, tables.nodes.get(file.name));
  tables.nodes.upsert(node.name, node);
  const local = 'file' in given ? undefined : given.localAddresses;
  for (const address of local ?? node.addresses) tables.localAddresses.upsert(address, { address, ifindex: 0 });
  const { limited, ...rows } = desiredRows(tables, { nodeName: node.name, settings });
  return { node, ...rows, services: new Map(tables.services.all()), problems: [...problems, ...limited] };
}

/**
 * The rows that the controllers of a daemon on this node compute from complete tables. The ports are sorted by key. `limited` has one message
 * for each Service with more endpoints than one Service may use.
 */
export function desiredRows(
  tables: SourceTables,
  own: { readonly nodeName: string; readonly settings: HostSettings },
): Pick<DryRun, 'ports' | 'host' | 'ranges' | 'conflicts'> & { readonly limited: readonly string[] } {
  const desired = new Table<string, DesiredPort>('desired-ports', noListener);
  const host = new Table<string, DesiredHost>('host', noListener);
  const ranges = new Table<string, DesiredRange>('address-sets', noListener);
  const complete: Readonly<Record<string, Pick<Table<string, never>, 'registerSource'>>> = { ...tables };
  for (const table of Object.values(complete)) table.registerSource('dry run')();
  const services = new ServiceController({ ...tables, ...own, desired });
  for (const controller of [services, new HostController({ ...tables, ...own, host, ranges })]) {
    controller.start();
    controller.stop();
  }
  const ports = [...desired.all()].toSorted(([a], [b]) => compareText(a, b));
  const hostRow = host.get(hostKey);
  if (hostRow === undefined) throw new Error('the host controller wrote no row');
  const problems = { conflicts: services.conflicts(), limited: services.limited() };
  return { ports: new Map(ports), host: hostRow, ranges: new Map(ranges.all()), ...problems };
}

const noListener = (): void => undefined;

function readNodeFile(path: string): NodeFile {
  try {
    return parseNodeFile(readBoundedText(path, { maxBytes: MAX_NODE_FILE_BYTES, waitsForPipe: true }));
  } catch (error) {
    const isInvalid = error instanceof InvalidObjectError;
    const message = isInvalid ? `${path}: ${error.message}` : `cannot read the --node file ${path}: ${systemReason(error)}`;
    throw new ExitError(ExitCode.config, message, { cause: error });
  }
}

function readAll(directory: string, tables: Parameters<typeof readObjects>[1]): string[] {
  try {
    return readObjects(directory, tables).map(({ message }) => message);
  } catch (error) {
    throw new ExitError(ExitCode.config, `cannot read the --objects directory ${directory}: ${systemReason(error)}`, { cause: error });
  }
}
