// SPDX-License-Identifier: Apache-2.0
// The wiring of the Service load balancer: source -> tables of objects -> controllers -> desired tables -> loops -> maps. This file has no
// logic of its own; agent.ts starts and stops the parts.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import { Turns } from '../base/slices.ts';
import { limitedLog } from '../base/limited-log.ts';
import { subsystem } from '../base/log.ts';
import type { Config } from '../config/schema.ts';
import type { ApiServerAddress } from '../model/api-server.ts';
import type { LbMaps, MapPressure, SourceMaps } from '../maps/types.ts';
import type { DesiredDevice } from '../model/device.ts';
import type { MasqueradeSource } from '../model/masquerade.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../model/frontend.ts';
import { kindNames } from '../source/kinds.ts';
import { sourceTables, tableOf } from '../source/tables.ts';
import { AddressSetOperations } from '../services/apply/address-set-operations.ts';
import { CaptureOperations } from '../services/apply/capture-operations.ts';
import { type HostFacts, HostOperations } from '../services/apply/host-operations.ts';
import { LbOperations } from '../services/apply/lb-operations.ts';
import { SourceOperations } from '../services/apply/source-operations.ts';
import { HostController } from '../services/controller/host-controller.ts';
import { NodePresence } from '../services/controller/node-presence.ts';
import { ServiceController } from '../services/controller/service-controller.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table, type TableView } from '../table/table.ts';
import { findSource, type SourceAccess } from './source.ts';
import { rowLog } from './row-log.ts';

export interface ServicesOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly access: SourceAccess;
  readonly maps: LbMaps;
  readonly sourceMaps: SourceMaps;
  readonly facts: HostFacts;
  /** The devices that must have programs. */
  readonly devices: TableView<number, DesiredDevice>;
  readonly onRepaired: (message: string) => void;
}

/** Rows of Service ports that may wait for the loop before more are written: 30 ms of its work. */
const MOST_BEHIND = 256;

/** Builds everything and starts nothing. */
export function buildServices({ config, log, access, maps, sourceMaps, facts, devices, onRepaired }: ServicesOptions) {
  const tables = sourceTables(setImmediate);
  // The source and the controllers take turns, so that only one of them works in each round of the event loop.
  const turns = new Turns();
  const desired = new Table<string, DesiredPort>('desired-ports', setImmediate);
  const ranges = new Table<string, DesiredRange>('address-sets', setImmediate);
  const host = new Table<string, DesiredHost>('host', setImmediate);
  const addressSources = new Table<string, MasqueradeSource>('address-sources', setImmediate);
  const masqueradeSources = new Table<string, MasqueradeSource>('masquerade-sources', setImmediate);

  // Nothing is pruned while the source is incomplete. When it becomes complete, every loop prunes.
  const prune = (): void => {
    for (const loop of Object.values(loops)) loop.requestPrune();
  };
  const { source, policies } = findSource({ config, access, tables, pace: turns, log: subsystem(log, 'source'), onComplete: prune });
  const common = {
    ...{ clock: systemClock, schedule: setImmediate, mayPrune: () => source.isComplete, repairEveryMs: config.syncPeriod },
    log: rowLog<string>({
      ...{ log: subsystem(log, 'reconcile'), clock: systemClock, fieldsOf: (row) => ({ row }), onRepaired },
      ...{ failed: 'row not applied, will be retried', recovered: 'row applied after retries' },
    }),
  };
  const operations = new LbOperations({ maps, clock: systemClock });
  const rangeOperations = new AddressSetOperations(maps, ranges);
  const serviceLog = subsystem(log, 'services');
  const warn = limitedLog<[string]>(systemClock, {
    write: (message) => serviceLog.warn(message),
    leftOut: (notLogged) =>
      serviceLog.warn({ notLogged }, 'further Services that are not served completely are not logged; see sluice status'),
  });
  const hostOperations = new HostOperations(maps, facts, { awaitsPorts: true });
  const captures = new CaptureOperations({
    ...{ ports: operations, ranges: rangeOperations },
    onWithdrawn: (what) => warn(`withdrew ${what}, which an earlier process served, because the agent reaches the API server there`),
  });
  const loops = {
    ranges: new Reconciler<string, DesiredRange>({ ...common, table: ranges, operations: rangeOperations }),
    host: new Reconciler<string, DesiredHost>({ ...common, table: host, operations: hostOperations }),
    sources: new Reconciler<string, MasqueradeSource>({
      ...{ ...common, table: masqueradeSources, operations: new SourceOperations(sourceMaps) },
    }),
    ports: new Reconciler<string, DesiredPort>({ ...common, table: desired, operations }),
    apiServers: new Reconciler<string, ApiServerAddress>({ ...common, table: tables.apiServers, operations: captures }),
  };
  const own = { nodeName: config.node, settings: config, pace: turns };
  return {
    ...{ ...tables, desired, ranges, host, addressSources, masqueradeSources, source, policies, loops, turns },
    /** Every table that the source fills. */
    objects: kindNames.map((kind) => tableOf(tables, kind)),
    nodePresence: new NodePresence({ nodes: tables.nodes, nodeName: config.node, source: source.name }),
    controller: new ServiceController({
      ...{ ...tables, ...own, desired, onRefused: warn },
      isBehind: () => loops.ports.behind > MOST_BEHIND,
    }),
    hostController: new HostController({ ...tables, ...own, devices, masqueradeSources, host, ranges }),
    owners: () => operations.owners(),
    pressure: () => summed([...operations.pressure(), ...rangeOperations.pressure()]),
    /**
     * Starts the loops. The loops that the loop of the Service ports depends on start first. From then on, each loop applies its table
     * independently of the others.
     */
    startLoops: () => {
      void loops.ports.firstDone.then(() => hostOperations.portsApplied());
      for (const loop of [loops.ranges, loops.sources, loops.host, loops.ports, loops.apiServers]) loop.start();
    },
    stopLoops: () => Object.values(loops).forEach((loop) => loop.stop()),
    /** Resolves when every loop has tried each row of its table once. */
    firstDone: Promise.all(Object.values(loops).map((loop) => loop.firstDone)),
  };
}

export type Services = ReturnType<typeof buildServices>;

/** Returns one row per map, with the sum of the used entries that several parts report for the same map. */
function summed(rows: readonly MapPressure[]): MapPressure[] {
  const byMap = new Map<string, MapPressure>();
  for (const row of rows) byMap.set(row.map, { ...row, used: row.used + (byMap.get(row.map)?.used ?? 0) });
  return [...byMap.values()];
}
