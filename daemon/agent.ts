// SPDX-License-Identifier: Apache-2.0
// The parts of the daemon and how they hang together, as units in start order: maps before ids, ids before sources,
// programs last of the datapath, the API when there is something to say. Wired by hand, so that a reader can follow it.
// No logic of its own; main.ts runs it.
import { join } from 'node:path';
import type { Logger } from 'pino';
import { agentView } from './agent-view.ts';
import { GrpcServer } from './api/grpc.ts';
import { buildHttp, listenHttp } from './api/http.ts';
import { buildMetrics } from './api/metrics.ts';
import type { AgentView } from './api/view.ts';
import type { Config } from './config.ts';
import { controlPlane } from './control-plane.ts';
import { ExitCode, Refusal } from './errors.ts';
import { findCgroup2 } from './kernel/host.ts';
import type { Unit } from './lifecycle.ts';
import { Datapath } from './loader/datapath.ts';
import { Devices } from './loader/devices.ts';
import { PinDirectory } from './loader/pins.ts';
import { Sockets } from './loader/sockets.ts';
import { subsystem } from './log.ts';
import { kernelMaps } from './maps/kernel-maps.ts';
import type { LbMaps } from './maps/types.ts';
import { versions } from './version.ts';

const objectsPath = join(import.meta.dirname, '../datapath/gen');
const SLOTS_PER_ROW = 16;

/** max_entries of the pinned maps, and the flag that each comes from. */
function mapSizes(config: Config) {
  const entries = (count: number, flag: string): { entries: number; flag: string } => ({ entries: count, flag });
  const frontends = entries(config.maxFrontends, 'max-frontends');
  const backends = entries(config.maxBackends, 'max-backends');
  const flows = entries(config.maxFlows, 'max-flows');
  const peers = entries(config.maxSocketFlows, 'max-socket-flows');
  return {
    ...{ lb4_frontends: frontends, lb6_frontends: frontends, lb4_backends: backends, lb6_backends: backends },
    lb_services: entries(config.maxServices, 'max-services'),
    lb_slots: entries(config.maxSlots / SLOTS_PER_ROW, 'max-slots'),
    ...{ ct4: flows, ct6: flows, sk4_backends: peers, sk6_backends: peers, sk4_vips: peers, sk6_vips: peers },
  };
}

/** A unit out of two calls. */
const unit = (name: string, start: () => Promise<void> | void, stop: () => Promise<void> | void): Unit => ({
  name,
  start: async () => start(),
  stop: async () => stop(),
});

export interface Agent {
  readonly units: readonly Unit[];
  readonly view: AgentView;
  /** SIGHUP: reads the sources anew. */
  reread(): Promise<void>;
  /** Resolves when the agent is ready for the first time. */
  readonly ready: Promise<void>;
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
  const plane = controlPlane(config, log, maps);
  const view = agentView({ config, datapath, devices, sockets, plane, maps });
  const grpc = new GrpcServer({ view, socketPath: config.socket, socketGroup: config.socketGroup, log: subsystem(log, 'api') });
  const http = buildHttp({ view, metrics: buildMetrics({ view, versions: versions() }), log: subsystem(log, 'api') });
  const firstDone = Promise.withResolvers<void>();

  const attachSockets = (): void => {
    const cgroup = config.cgroup ?? findCgroup2();
    if (!config.socketLb) sockets.detach();
    else if (cgroup !== undefined) sockets.attach(cgroup);
    else throw new Refusal(ExitCode.kernel, 'no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup, or --socket-lb off');
  };
  const startLoop = (): void => {
    void plane.startLoop().reconciler.firstDone.then(() => {
      grpc.publishHealth();
      firstDone.resolve();
    });
  };
  const listen = async (): Promise<void> => {
    if (config.http !== undefined) await listenHttp(http, config.http);
  };
  const openPins = (): void => {
    pins.open();
    pins.lock();
  };
  return {
    view,
    ready: firstDone.promise,
    reread: () => plane.source.rescan(),
    units: [
      unit('pins', openPins, () => pins.unlock()),
      unit(
        'datapath',
        () => datapath.load(),
        () => datapath.close(),
      ),
      unit(
        'controller',
        () => plane.controller.start(),
        () => plane.controller.stop(),
      ),
      unit('sockets', attachSockets, () => undefined),
      unit(
        'devices',
        () => devices.start(),
        () => devices.stop(),
      ),
      unit('reconcile', startLoop, () => plane.loop()?.reconciler.stop()),
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
