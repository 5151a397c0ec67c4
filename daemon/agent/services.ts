// SPDX-License-Identifier: Apache-2.0
// The control walk as it hangs together: source -> intent tables -> controller -> desired table -> reconciler -> maps.
// Everything of the agent but kernel and network, wired by hand; agent.ts starts and stops the parts.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import type { Config } from '../config/schema.ts';
import { HostController } from '../services/controller/host-controller.ts';
import { ServiceController } from '../services/controller/service-controller.ts';
import { findSource } from './source.ts';
import { subsystem } from '../base/log.ts';
import type { LbMaps } from '../maps/types.ts';
import type { DesiredPort, HostRow } from '../model/frontend.ts';
import { sourceTables } from '../source/tables.ts';
import { Table } from '../table/table.ts';
import { HostOperations, type HostFacts } from '../services/apply/host-operations.ts';
import { LbOperations, type MapPressure } from '../services/apply/lb-operations.ts';
import { Reconciler } from '../table/reconciler.ts';
import type { ReconcileLog } from '../table/status.ts';

interface Outlets {
  readonly maps: () => LbMaps;
  readonly hostFacts: () => HostFacts;
  readonly onMended: (sentence: string) => void;
}

/** What runs once the maps are there. */
interface Loop {
  readonly operations: LbOperations;
  readonly reconciler: Reconciler<string, DesiredPort>;
  readonly hostReconciler: Reconciler<string, HostRow>;
  /** How full each map is; of a trie, what Services and the node have in it. */
  pressure(): MapPressure[];
  /** Both have done all there was to do at first. */
  readonly firstDone: Promise<unknown>;
  isReady(): boolean;
  stop(): void;
}

/** Builds the tables and what stands between them. `maps` is asked when the loop starts; `onMended` hears what it put back. */
export function controlPlane(config: Config, log: Logger, outlets: Outlets) {
  const tables = sourceTables(setImmediate);
  const desired = new Table<string, DesiredPort>('desired-ports', setImmediate);
  const host = new Table<string, HostRow>('host', setImmediate);
  const sourceLog = subsystem(log, 'source');
  let loop: Loop | undefined;
  // What an incomplete source held back may be withdrawn when it is complete.
  const prune = (): void => {
    loop?.reconciler.requestPrune();
    loop?.hostReconciler.requestPrune();
  };
  const source = findSource({ config, tables, env: process.env, log: sourceLog, onComplete: prune });
  const own = { nodeName: config.node, settings: config };
  const controller = new ServiceController({ ...tables, desired, ...own });
  const hostController = new HostController({ ...tables, host, ...own });
  const reconcileLog = subsystem(log, 'reconcile');
  const startLoop = (): Loop => {
    const operations = new LbOperations({ maps: outlets.maps(), clock: systemClock });
    const common = {
      ...{ clock: systemClock, schedule: setImmediate, mayPrune: () => source.isComplete, mendEveryMs: config.syncPeriod },
      log: {
        rowFailed: (row, err) => reconcileLog.error({ row, err }, 'row not applied, will be tried again'),
        rowRecovered: (row, retries) => reconcileLog.info({ row, retries }, 'row applied after all'),
        stepFailed: (step, err) => reconcileLog.error({ step, err }, 'step failed, will be tried again'),
        stepRecovered: (step) => reconcileLog.info({ step }, 'step done after all'),
        mended: outlets.onMended,
      } satisfies ReconcileLog<string>,
    };
    const hostOperations = new HostOperations(outlets.maps(), outlets.hostFacts());
    const hostReconciler = new Reconciler<string, HostRow>({ ...common, table: host, operations: hostOperations });
    const reconciler = new Reconciler<string, DesiredPort>({ ...common, table: desired, operations });
    // What holds for every Service first: a frontend may ask for it at once.
    const both = [hostReconciler, reconciler];
    loop = {
      ...{ operations, reconciler, hostReconciler },
      pressure: () => summed([...operations.pressure(), ...hostOperations.pressure()]),
      firstDone: Promise.all(both.map((each) => each.firstDone)),
      isReady: () => both.every((each) => each.isReady),
      stop: () => both.forEach((each) => each.stop()),
    };
    for (const each of both) each.start();
    return loop;
  };
  return {
    ...tables,
    desired,
    host,
    source,
    controller,
    hostController,
    startLoop,
    loop: () => loop,
  };
}

export type ControlPlane = ReturnType<typeof controlPlane>;

/** One row for each map. */
function summed(rows: readonly MapPressure[]): MapPressure[] {
  const byMap = new Map<string, MapPressure>();
  for (const row of rows) byMap.set(row.map, { ...row, used: row.used + (byMap.get(row.map)?.used ?? 0) });
  return [...byMap.values()];
}
