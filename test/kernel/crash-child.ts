// SPDX-License-Identifier: Apache-2.0
// A process that runs the control plane with pinned maps: tables, controllers, reconcilers, real maps and real time. Its parent,
// crash.test.ts, kills it at any moment. The process prints "loaded" when its code is loaded. Each line on stdin names a file with all
// objects. The first line starts the control plane. The process prints "settled" when the maps are up to date.
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '../../daemon/base/clock.ts';
import { BpfMap, openPin } from '../../daemon/kernel/map.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../../daemon/model/frontend.ts';
import { objectKey } from '../../daemon/model/object-key.ts';
import type { Service } from '../../daemon/model/service.ts';
import { AddressSetOperations } from '../../daemon/services/apply/address-set-operations.ts';
import { HostOperations } from '../../daemon/services/apply/host-operations.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { HostController } from '../../daemon/services/controller/host-controller.ts';
import { ServiceController } from '../../daemon/services/controller/service-controller.ts';
import { sourceTables } from '../../daemon/source/tables.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import { Table } from '../../daemon/table/table.ts';
import { hostSettings } from '../support/builders.ts';

export interface CrashObjects {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
}

const TURNS = 5;
const pinPath = process.argv[2] ?? '';
const print = (text: string): void => void process.stdout.write(`${text}\n`);

const tables = sourceTables(setImmediate);
const { services, slices } = tables;
const host = new Table<string, DesiredHost>('host', setImmediate);
const ranges = new Table<string, DesiredRange>('address-sets', setImmediate);
const desired = new Table<string, DesiredPort>('desired', setImmediate);
const marks = Object.values(tables).map((table) => table.registerSource('parent'));
const own = { nodeName: 'node-1', settings: hostSettings() };
const controllers = [new HostController({ ...tables, host, ranges, ...own }), new ServiceController({ ...tables, desired, ...own })];

function openMap(name: string): BpfMap {
  const fd = openPin(join(pinPath, 'maps', name));
  if (fd === undefined) throw new Error(`no pin ${name}`);
  return new BpfMap(fd);
}

/** Replaces the content of a table. */
function replace<Row extends Service | EndpointSlice>(table: Table<string, Row>, rows: readonly Row[]): void {
  const wanted = new Set(rows.map(objectKey));
  for (const [key] of [...table.all()]) if (!wanted.has(key)) table.delete(key);
  for (const row of rows) table.upsert(objectKey(row), row);
}

function start(): readonly { readonly isClean: boolean }[] {
  const fail = (what: string, error: Error): never => {
    throw new Error(`${what}: ${error.message}`);
  };
  const log = { rowFailed: fail, rowRecovered: () => {}, stepFailed: fail, stepRecovered: () => {}, repaired: () => {} };
  const common = { clock: systemClock, schedule: setImmediate, log };
  const maps = kernelMaps(openMap);
  const loops = [
    new Reconciler<string, DesiredRange>({ ...common, table: ranges, operations: new AddressSetOperations(maps) }),
    new Reconciler<string, DesiredHost>({
      ...common,
      table: host,
      operations: new HostOperations(maps, { netnsCookie: 1n, now: () => 0n }),
    }),
    new Reconciler<string, DesiredPort>({
      ...{ ...common, table: desired },
      operations: new LbOperations({ maps, clock: systemClock, graceMs: 20 }),
    }),
  ];
  for (const each of [...controllers, ...loops]) each.start();
  return loops;
}

let loops: ReturnType<typeof start> | undefined;
createInterface({ input: process.stdin }).on('line', (line) => {
  const objects = JSON.parse(readFileSync(line, 'utf8')) as CrashObjects;
  const isFirst = loops === undefined;
  loops ??= start();
  replace(services, objects.services);
  replace(slices, objects.slices);
  if (isFirst) for (const mark of marks) mark();
  // A change passes through two tables. Each table needs one turn of the event loop.
  const check = (turn: number): void => {
    if (turn > TURNS && loops?.every((loop) => loop.isClean) === true) print('settled');
    else setImmediate(check, turn + 1);
  };
  check(0);
});
// Writes the compile cache now, so that the next child starts faster. Node.js would write it at exit, but this process is killed.
flushCompileCache();
print('loaded');
