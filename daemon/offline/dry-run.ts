// SPDX-License-Identifier: Apache-2.0
// The control walk without daemon, kernel or time: a directory of objects and a node file -> the desired rows that a daemon
// on that node would have. For `sluice plan` and `sluice explain --objects`. Synchronous; reads files and nothing else.
import { readFileSync } from 'node:fs';
import { HostController } from '../services/controller/host-controller.ts';
import { ServiceController } from '../services/controller/service-controller.ts';
import { ExitCode, InvalidObjectError, messageOf, Refusal } from '../base/errors.ts';
import type { DesiredPort, HostRow } from '../model/frontend.ts';
import type { HostSettings } from '../model/host.ts';
import { compareText } from '../model/order.ts';
import type { Node } from '../model/node.ts';
import { Table } from '../table/table.ts';
import { readObjects } from '../source/files/read-objects.ts';
import { type SourceTables, sourceTables } from '../source/tables.ts';
import { nodeOf, type NodeFile, parseNodeFile } from './node-file.ts';

export interface DryRunInput {
  /** Directory of YAML and JSON. */
  readonly objects: string;
  /** The --node FILE; or the bare name of a node, of which the objects say the rest. */
  readonly node: { readonly file: string } | { readonly name: string };
  readonly settings: HostSettings;
}

export interface DryRun {
  /** The node that was played. */
  readonly node: Node;
  /** Keyed and sorted by key. */
  readonly ports: ReadonlyMap<string, DesiredPort>;
  readonly host: ReadonlyMap<string, HostRow>;
  /** What could not be used, a sentence each. */
  readonly problems: readonly string[];
}

/** Throws Refusal when the directory or the node file cannot be used; bad objects are only problems. */
export function dryRun({ objects, node: given, settings }: DryRunInput): DryRun {
  const tables = sourceTables(toNobody);
  const file = 'file' in given ? readNodeFile(given.file) : { name: given.name, ips: undefined, labels: undefined, podCIDRs: undefined };
  const problems = readAll(objects, tables);
  const node = nodeOf(file, tables.nodes.get(file.name));
  tables.nodes.upsert(node.name, node);
  for (const address of node.addresses) tables.localAddresses.upsert(address, { address, ifindex: 0 });
  return { node, ...desiredRows(tables, { nodeName: node.name, settings }), problems };
}

/** What the daemon's controllers on that node make of these tables, taken as listed to the end. Ports are sorted by key. */
export function desiredRows(
  tables: SourceTables,
  own: { readonly nodeName: string; readonly settings: HostSettings },
): Pick<DryRun, 'ports' | 'host'> {
  const desired = new Table<string, DesiredPort>('desired-ports', toNobody);
  const host = new Table<string, HostRow>('host', toNobody);
  for (const table of Object.values(tables)) table.registerSource('dry run')();
  for (const controller of [new ServiceController({ ...tables, ...own, desired }), new HostController({ ...tables, ...own, host })]) {
    controller.start();
    controller.stop();
  }
  const ports = [...desired.all()].toSorted(([a], [b]) => compareText(a, b));
  return { ports: new Map(ports), host: new Map(host.all()) };
}

const toNobody = (): void => undefined;

function readNodeFile(path: string): NodeFile {
  try {
    return parseNodeFile(readFileSync(path, 'utf8'));
  } catch (error) {
    const reason = messageOf(error);
    const sentence = error instanceof InvalidObjectError ? `${path}: ${reason}` : `cannot read the --node file: ${reason}`;
    throw new Refusal(ExitCode.config, sentence, { cause: error });
  }
}

function readAll(directory: string, tables: Parameters<typeof readObjects>[1]): string[] {
  try {
    return readObjects(directory, tables).map(({ message }) => message);
  } catch (error) {
    throw new Refusal(ExitCode.config, `cannot read the --objects directory: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
