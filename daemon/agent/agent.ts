// SPDX-License-Identifier: Apache-2.0
// The parts of the daemon and how they hang together, as units in start order: maps before ids, ids before sources,
// programs last of the datapath, the API when there is something to say. Wired by hand, so that a reader can follow it.
// No logic of its own; main.ts runs it.
import type { Logger } from 'pino';
import { agentView } from './agent-view.ts';
import { GrpcServer } from '../api/grpc.ts';
import { familiesOfPort, type SyncedTable } from '../services/health/sync-feed.ts';
import { buildHttp, listenHttp } from '../api/http.ts';
import { buildMetrics } from '../api/metrics.ts';
import type { AgentView, ReloadReport } from '../status/view.ts';
import type { Config } from '../config/schema.ts';
import { systemClock } from '../base/clock.ts';
import { type ControlPlane, controlPlane } from './services.ts';
import { healthAddresses, healthParts } from './health.ts';
import type { Unit } from '../base/lifecycle.ts';
import { ExplainService } from './explain.ts';
import type { Held } from '../bpf/attached.ts';
import { Datapath, objectsPath } from '../bpf/datapath.ts';
import { Devices } from '../bpf/devices.ts';
import { needFreeHooks } from '../bpf/free-hooks.ts';
import { Guard } from '../bpf/guard.ts';
import { netnsCookie } from '../kernel/host.ts';
import { needCapabilities, needCgroup, needKernel, needOwnPorts } from '../host/needs.ts';
import { LocalAddresses } from '../source/netlink/local-addresses.ts';
import { mapSizes } from '../bpf/map-sizes.ts';
import { PinDirectory } from '../bpf/pins.ts';
import { Sockets } from '../bpf/sockets.ts';
import { subsystem } from '../base/log.ts';
import { kernelMaps } from '../maps/kernel-maps.ts';
import type { LbMaps } from '../maps/types.ts';
import { families } from '../model/address.ts';
import type { HostFacts } from '../services/apply/host-operations.ts';
import { Repairs } from '../base/repairs.ts';
import { versions } from '../host/version.ts';

/** A unit out of two calls. */
const unit = (name: string, start: () => Promise<void> | void, stop: () => Promise<void> | void): Unit => ({
  name,
  start: async () => start(),
  stop: async () => stop(),
});

export interface Agent {
  readonly units: readonly Unit[];
  readonly view: AgentView;
  /** Name of where the objects come from. */
  readonly source: string;
  /** SIGHUP: reads the sources anew. */
  reread(): Promise<void>;
  /** Resolves when the agent is ready for the first time. */
  readonly ready: Promise<void>;
}

/** Tables whose changes count as a sync of the proxy. */
function syncedTables(plane: ControlPlane): SyncedTable[] {
  const loop = plane.loop();
  if (loop === undefined) return [];
  return [
    { table: plane.desired, loop: loop.reconciler, familiesOf: familiesOfPort },
    { table: plane.host, loop: loop.hostReconciler, familiesOf: () => families },
  ];
}

/** Everything, built and not started: constructors do nothing. */
export function buildAgent(config: Config, log: Logger): Agent {
  const pins = new PinDirectory(config.pinPath);
  const datapath = new Datapath(pins, { objectsPath, sizes: mapSizes(config) });
  const sockets = new Sockets(pins, datapath);
  const devices = new Devices({
    podPrefixes: config.podInterfaces,
    uplinks: config.uplinks,
    datapath,
    pins,
    log: subsystem(log, 'loader'),
  });
  const maps = (): LbMaps => kernelMaps((name) => datapath.map(name));
  const repairs = new Repairs(subsystem(log, 'repair'), systemClock);
  const onMended = (sentence: string): void => repairs.add(sentence);
  const hostFacts = (): HostFacts => ({
    netnsCookie: netnsCookie(),
    hasTc: { pods: config.podInterfaces.length > 0, node: config.uplinks.length > 0 },
    snatPorts: config.snatPorts,
  });
  const plane = controlPlane(config, log, { maps, hostFacts, onMended });
  const localAddresses = new LocalAddresses(plane.localAddresses);
  const explain = new ExplainService({ config, datapath, plane, maps, objectsPath });
  const guard = new Guard({
    ...{ pins, datapath, sockets, devices, clock: systemClock, periodMs: config.syncPeriod, onMended },
    onFailed: (sentence) => subsystem(log, 'repair').error(sentence),
  });
  const health = healthParts({
    ...{ services: plane.services, slices: plane.slices, nodes: plane.nodes, desired: plane.desired, nodeName: config.node },
    ...{ proxyHealth: config.healthzBindAddress, nodePortAddresses: () => healthAddresses(config, plane) },
    localAddresses: plane.localAddresses,
    ...{ clock: systemClock, schedule: setImmediate, log: subsystem(log, 'health') },
    synced: () => syncedTables(plane),
  });
  const view = agentView({ config, datapath, devices, sockets, guard, repairs, plane, maps, explain, health });
  const reload = (): ReloadReport => {
    const began = performance.now();
    const held = (): Held[] => [...sockets.held(), ...devices.held()];
    datapath.reload(() => {
      for (const { program, attached } of held()) attached.replace(datapath.program(program));
    });
    explain.close();
    const report = { hooks: held().length, milliseconds: performance.now() - began };
    subsystem(log, 'loader').info(report, 'programs replaced');
    return report;
  };
  const grpc = new GrpcServer({ view, reload, socketPath: config.socket, socketGroup: config.socketGroup, log: subsystem(log, 'api') });
  const http = buildHttp({
    view,
    metrics: buildMetrics({ view, versions: versions(), also: [health.metrics] }),
    log: subsystem(log, 'api'),
  });
  const firstDone = Promise.withResolvers<void>();

  const attachSockets = (): void => {
    if (config.socketLb) sockets.attach(needCgroup(config.cgroup));
    else sockets.detach();
  };
  const startLoop = (): void => {
    void plane.startLoop().firstDone.then(() => {
      grpc.publishHealth();
      firstDone.resolve();
    });
  };
  const listen = async (): Promise<void> => {
    if (config.http !== undefined) await listenHttp(http, config.http);
  };
  /** Everything that can be refused is refused here, before anything is made or attached. */
  const askHost = (): void => {
    needCapabilities();
    needKernel();
    needOwnPorts(config.snatPorts);
    pins.refuseUnusable();
    if (config.socketLb) needFreeHooks(needCgroup(config.cgroup));
  };
  const openPins = (): void => {
    pins.open();
    pins.lock();
  };
  return {
    view,
    source: plane.source.name,
    ready: firstDone.promise,
    reread: () => plane.source.rescan(),
    units: [
      unit('host', askHost, () => undefined),
      unit('pins', openPins, () => pins.unlock()),
      unit(
        'datapath',
        () => datapath.load(),
        () => datapath.close(),
      ),
      unit(
        'controller',
        () => {
          plane.hostController.start();
          plane.controller.start();
        },
        () => {
          plane.hostController.stop();
          plane.controller.stop();
        },
      ),
      unit(
        'local addresses',
        () => localAddresses.start(),
        () => localAddresses.stop(),
      ),
      unit(
        'explain',
        () => undefined,
        () => explain.close(),
      ),
      unit('sockets', attachSockets, () => sockets.close()),
      unit(
        'devices',
        () => devices.start(),
        () => devices.stop(),
      ),
      unit(
        'guard',
        () => guard.start(),
        () => guard.stop(),
      ),
      unit('reconcile', startLoop, () => plane.loop()?.stop()),
      ...health.units,
      unit(
        'source',
        () => plane.source.start(),
        () => plane.source.stop(),
      ),
      unit('http', listen, () => http.close()),
      grpc,
    ],
  };
}
