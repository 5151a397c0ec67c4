// SPDX-License-Identifier: Apache-2.0
// The wiring of programs on their hooks: devices from netlink to the desired table and its loop, the socket hooks of the cgroup, the guard
// that repairs attachments, and the live replacement of programs. This file has no logic of its own; agent.ts starts and stops the parts.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import { subsystem } from '../base/log.ts';
import type { StatusPart } from '../base/status-part.ts';
import { type Attached, type Held, isDeviceGone } from '../bpf/attached.ts';
import { socketCgroup } from '../bpf/cgroup.ts';
import { DeviceOperations } from '../bpf/devices.ts';
import { Guard } from '../bpf/guard.ts';
import { Handover } from '../bpf/handover.ts';
import { HookInspection } from '../bpf/hook-inspection.ts';
import { Sockets } from '../bpf/sockets.ts';
import type { Config } from '../config/schema.ts';
import type { Family } from '../model/address.ts';
import type { Pace } from '../base/slices.ts';
import type { DesiredDevice, DeviceRoutes, DeviceSubnet, NetworkDevice, RoutingRules, StrictDevice } from '../model/device.ts';
import { DeviceController } from '../services/controller/device-controller.ts';
import { Links } from '../source/netlink/links.ts';
import { Routes } from '../source/netlink/routes.ts';
import { routingRules } from '../source/netlink/routing-rules.ts';
import { sourceValidation } from '../source/netlink/source-validation.ts';
import type { ReloadReport } from '../status/view.ts';
import { Reconciler } from '../table/reconciler.ts';
import { Table } from '../table/table.ts';
import type { OpenDatapath } from './datapath.ts';
import { rowLog } from './row-log.ts';

export interface HooksOptions extends OpenDatapath {
  readonly config: Config;
  readonly log: Logger;
  /** Devices with an address of a subnet. Another part of the agent writes them. */
  readonly subnets: Table<number, DeviceSubnet>;
  /** The devices that must have programs. */
  readonly devices: Table<number, DesiredDevice>;
  /** When the reading of the routes pauses. */
  readonly pace: Pace;
  readonly onRepaired: (message: string) => void;
}

/** The tables that the hooks share with other parts of the agent. */
export const deviceTables = (): Pick<HooksOptions, 'subnets' | 'devices'> => ({
  subnets: new Table('subnets', setImmediate),
  devices: new Table('devices', setImmediate),
});

/** Builds everything and starts nothing. */
export function buildHooks({ config, log, pins, datapath, subnets, devices: desired, pace, onRepaired }: HooksOptions) {
  const bpfLog = subsystem(log, 'bpf');
  const { linkTable, sources, controller } = buildDevices({ config, log, subnets, devices: desired, pace });
  const { links } = sources;
  const operations = new DeviceOperations({ datapath, pins, log: bpfLog });
  const nameOf = (ifindex: number): string => desired.get(ifindex)?.name ?? `ifindex ${ifindex}`;
  const loop = new Reconciler<number, DesiredDevice>({
    ...{ table: desired, operations, clock: systemClock, schedule: setImmediate },
    log: rowLog<number>({
      ...{ log: bpfLog, clock: systemClock, fieldsOf: (ifindex) => ({ device: nameOf(ifindex) }), isExpected: isDeviceGone },
      failed: 'the programs of the device could not be attached or detached, will be retried',
      recovered: 'the programs of the device were attached or detached after retries',
      onRepaired: () => undefined,
    }),
  });
  const { sockets, handover, ...socketUnits } = buildSockets({ config, pins, datapath, pace, log: bpfLog });
  const held = (): Held[] => [...sockets.held(), ...operations.held()];
  const guard = new Guard({
    ...{ pins, datapath, held, clock: systemClock, periodMs: config.syncPeriod, onRepaired },
    beforeHooks: () => {
      links.resync();
      // The round that restores detached links also retries the devices whose programs could not be attached.
      loop.retryFailed();
    },
    onFailed: (message) => subsystem(log, 'repair').error(message),
  });
  const notAttached = notAttachedPart(loop, nameOf);
  const inspection = new HookInspection({
    ...{ pins, datapath, hasSocketLb: config.socketLb, now: () => systemClock.now() },
    devices: () => [...desired.all()].filter(([ifindex]) => loop.status(ifindex)?.kind === 'done').map(([, device]) => device),
    cgroup: () => [...sockets.held()][0]?.target,
    socketHooks: () => sockets.hooks(),
  });
  const stopSources = (): void => {
    for (const source of Object.values(sources).toReversed()) source?.stop();
  };
  const startDevices = async (): Promise<void> => {
    try {
      links.start();
      sources.validation.start();
      sources.rules.start();
      await sources.routes?.start();
    } catch (error) {
      stopSources();
      throw error;
    }
    controller.start();
    loop.start();
    await loop.firstDone;
  };
  const stopDevices = (): void => {
    loop.stop();
    controller.stop();
    stopSources();
    operations.close();
  };
  /** Replaces every attached program with the program that is on disk now. If it throws, the previous programs are attached. */
  const reload = (): ReloadReport => {
    const began = performance.now();
    datapath.reload(() => {
      for (const { program, attached } of held()) replace(attached, datapath.program(program));
    });
    const report = { hooks: held().length, milliseconds: performance.now() - began };
    bpfLog.info(report, 'programs replaced');
    return report;
  };
  return {
    links: linkTable,
    ...{ guard, held, startDevices, stopDevices, ...socketUnits, handover, reload },
    attachments: () => [...operations.attachments(), ...sockets.attachments()],
    status: [notAttached, controller, handover, ...Object.values(sources).filter((source) => source !== undefined)] satisfies StatusPart[],
    deviceController: controller,
    findings: {
      missingPrograms: { problems: () => inspection.findings().missing },
      otherAgents: { problems: () => inspection.findings().others },
      displacedPrograms: { problems: () => inspection.findings().displaced },
      programsAhead: { problems: () => inspection.findings().ahead },
    },
  };
}

/** The tables that say which devices the node has, and the controller that derives the devices with programs from them. */
function buildDevices({ config, log, subnets, devices, pace }: Pick<HooksOptions, 'config' | 'log' | 'subnets' | 'devices' | 'pace'>) {
  const linkTable = new Table<number, NetworkDevice>('links', setImmediate);
  const routeTable = new Table<number, DeviceRoutes>('routes', setImmediate);
  const strictDevices = new Table<number, StrictDevice>('strict devices', setImmediate);
  const rules = new Table<Family, RoutingRules>('routing rules', setImmediate);
  const netlink = { clock: systemClock, log: subsystem(log, 'netlink') };
  const tables = { links: linkTable, routes: routeTable, subnets, strictDevices, rules };
  return {
    linkTable,
    sources: {
      links: new Links(linkTable, netlink),
      validation: sourceValidation(strictDevices, netlink),
      rules: routingRules(rules, netlink),
      routes: routeSource(routeTable, config, { ...netlink, pace }),
    },
    controller: new DeviceController({ ...tables, devices, settings: config }),
  };
}

/** The socket hooks, and the commands that attach and detach a part of them. */
function buildSockets({ config, pins, datapath, pace, log }: Pick<HooksOptions, 'config' | 'pins' | 'datapath' | 'pace' | 'log'>) {
  const sockets = new Sockets(pins, datapath);
  const attachSockets = (): void => {
    if (!config.socketLb) return sockets.detach();
    // An earlier daemon may have changed the phase and ended before it detached these programs.
    if (datapath.phase === 'draining') sockets.detachRequests();
    sockets.attach(socketCgroup(config.cgroup));
  };
  const handover = new Handover({
    ...{ datapath, sockets, attachSockets, clock: systemClock, pace },
    onChanged: (phase) => log.info({ phase }, 'the phase was changed'),
  });
  const startSockets = (): void => {
    attachSockets();
    handover.start();
  };
  const stopSockets = (): void => {
    handover.stop();
    sockets.close();
  };
  return { sockets, handover, startSockets, stopSockets };
}

/** Nothing reads the routes if the settings name all devices. The table is then complete without rows. */
function routeSource(
  table: Table<number, DeviceRoutes>,
  { podInterfaces, uplinks }: Config,
  options: ConstructorParameters<typeof Routes>[1],
): Routes | undefined {
  if (podInterfaces === 'auto' || uplinks === 'auto') return new Routes(table, options);
  table.registerSource('none')();
  return undefined;
}

/** A device or a cgroup that was deleted a moment ago is not an error. A later repair attaches the new program, if that is possible. */
function replace(attached: Attached, program: number): void {
  try {
    attached.replace(program);
  } catch (error) {
    if (!isDeviceGone(error)) throw error;
  }
}

/** The devices whose programs could not be attached. */
const notAttachedPart = (loop: Reconciler<number, DesiredDevice>, nameOf: (ifindex: number) => string): StatusPart => ({
  // A device that no longer exists is not a problem: its row is about to be deleted.
  problems: () => [
    ...loop.failedSteps().map(({ step, error }) => `devices: ${step}: ${error.message}`),
    ...[...loop.failed()]
      .filter(([, { error }]) => !isDeviceGone(error))
      .map(([ifindex, { error }]) => `${nameOf(ifindex)}: ${error?.message ?? ''}`),
  ],
});
