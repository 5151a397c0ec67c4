// SPDX-License-Identifier: Apache-2.0
// The control walk as it hangs together: source -> intent tables -> controller -> desired table -> reconciler -> maps.
// Everything of the agent but kernel and network, wired by hand; agent.ts starts and stops the parts.
import type { Logger } from 'pino';
import { systemClock } from './clock.ts';
import type { Config } from './config.ts';
import { ServiceController } from './controller/service-controller.ts';
import { subsystem } from './log.ts';
import type { LbMaps } from './maps/types.ts';
import type { DesiredPort } from './model/frontend.ts';
import type { EndpointSlice, Node, Service } from './model/service.ts';
import { Table } from './model/table.ts';
import { LbOperations } from './reconcile/lb-operations.ts';
import { Reconciler } from './reconcile/reconciler.ts';
import { FilesSource } from './source/files/files-source.ts';

/** Builds the tables and what stands between them. `maps` is asked when the loop starts; `onMended` hears what it put back. */
export function controlPlane(config: Config, log: Logger, outlets: { maps: () => LbMaps; onMended: (sentence: string) => void }) {
  const services = new Table<string, Service>('services', setImmediate);
  const slices = new Table<string, EndpointSlice>('endpoint-slices', setImmediate);
  const nodes = new Table<string, Node>('nodes', setImmediate);
  const desired = new Table<string, DesiredPort>('desired-ports', setImmediate);
  const sourceLog = subsystem(log, 'source');
  let loop: { operations: LbOperations; reconciler: Reconciler<string, DesiredPort> } | undefined;
  const source = new FilesSource({
    directory: config.source,
    tables: { services, slices, nodes },
    clock: systemClock,
    log: {
      appeared: ({ message }) => sourceLog.warn(message),
      resolved: ({ message }) => {
        sourceLog.info(`resolved: ${message}`);
        // What an incomplete source held back may be withdrawn now.
        setImmediate(() => loop?.reconciler.requestPrune());
      },
    },
  });
  const controller = new ServiceController({ services, slices, nodes, desired, nodeName: config.node });
  const reconcileLog = subsystem(log, 'reconcile');
  const startLoop = (): NonNullable<typeof loop> => {
    const operations = new LbOperations({ maps: outlets.maps(), clock: systemClock });
    const reconciler = new Reconciler<string, DesiredPort>({
      ...{ table: desired, operations, clock: systemClock, schedule: setImmediate, mayPrune: () => source.isComplete },
      mendEveryMs: config.syncPeriod,
      log: {
        rowFailed: (row, err) => reconcileLog.error({ row, err }, 'row not applied, will be tried again'),
        rowRecovered: (row, retries) => reconcileLog.info({ row, retries }, 'row applied after all'),
        stepFailed: (step, err) => reconcileLog.error({ step, err }, 'step failed, will be tried again'),
        stepRecovered: (step) => reconcileLog.info({ step }, 'step done after all'),
        mended: outlets.onMended,
      },
    });
    loop = { operations, reconciler };
    reconciler.start();
    return loop;
  };
  return { services, desired, source, controller, startLoop, loop: () => loop };
}

export type ControlPlane = ReturnType<typeof controlPlane>;
