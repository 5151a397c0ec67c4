// SPDX-License-Identifier: Apache-2.0
// A process that runs the control plane with pinned maps: tables, controller, reconciler, real maps and real time. Its parent,
// crash.test.ts, kills it at any moment. The process prints "loaded" when its code is loaded. Each line on stdin names a file with all
// objects. The first line starts the control plane. The process prints "settled" when the maps are up to date.
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { systemClock } from '../../daemon/base/clock.ts';
import { ServiceController } from '../../daemon/services/controller/service-controller.ts';
import { BpfMap, openPin } from '../../daemon/kernel/map.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import type { LocalAddress } from '../../daemon/model/host.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../daemon/model/node.ts';
import { objectKey } from '../../daemon/model/object-key.ts';
import type { Service } from '../../daemon/model/service.ts';
import { Table } from '../../daemon/table/table.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import { hostSettings } from '../support/builders.ts';

export interface CrashObjects {
  readonly services: readonly Service[];
  readonly slices: readonly EndpointSlice[];
}

const TURNS = 5;
const pinPath = process.argv[2] ?? '';
const print = (text: string): void => void process.stdout.write(`${text}\n`);

const services = new Table<string, Service>('services', setImmediate);
const slices = new Table<string, EndpointSlice>('slices', setImmediate);
const nodes = new Table<string, Node>('nodes', setImmediate);
const desired = new Table<string, DesiredPort>('desired', setImmediate);
const localAddresses = new Table<string, LocalAddress>('local-addresses', setImmediate);
const marks = [services, slices, nodes, localAddresses].map((table) => table.registerSource('parent'));
const own = { nodes, localAddresses, nodeName: 'node-1', settings: hostSettings() };
const controller = new ServiceController({ services, slices, desired, ...own });

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

function start(): Reconciler<string, DesiredPort> {
  const fail = (what: string, error: Error): never => {
    throw new Error(`${what}: ${error.message}`);
  };
  const reconciler = new Reconciler<string, DesiredPort>({
    ...{ table: desired, clock: systemClock, schedule: setImmediate },
    operations: new LbOperations({ maps: kernelMaps(openMap), clock: systemClock, graceMs: 20 }),
    log: { rowFailed: fail, rowRecovered: () => {}, stepFailed: fail, stepRecovered: () => {}, repaired: () => {} },
  });
  controller.start();
  reconciler.start();
  return reconciler;
}

let reconciler: Reconciler<string, DesiredPort> | undefined;
createInterface({ input: process.stdin }).on('line', (line) => {
  const objects = JSON.parse(readFileSync(line, 'utf8')) as CrashObjects;
  const isFirst = reconciler === undefined;
  reconciler ??= start();
  replace(services, objects.services);
  replace(slices, objects.slices);
  if (isFirst) for (const mark of marks) mark();
  // A change passes through two tables. Each table needs one turn of the event loop.
  const check = (turn: number): void => {
    if (turn > TURNS && reconciler?.isClean === true) print('settled');
    else setImmediate(check, turn + 1);
  };
  check(0);
});
// Writes the compile cache now, so that the next child starts faster. Node.js would write it at exit, but this process is killed.
flushCompileCache();
print('loaded');
