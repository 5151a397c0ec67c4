// SPDX-License-Identifier: Apache-2.0
// The second phase of a start: builds everything that works on the open datapath, as units in start order. The controllers start first,
// then programs are attached, then the loops and the sources start, and the APIs start last. The parts are connected by hand, without a
// framework, so that a reader can follow the connections. This file has no logic of its own; main.ts runs it.
import type { Logger } from 'pino';
import { eventLoopMetrics } from '../api/event-loop.ts';
import { GrpcServer } from '../api/grpc.ts';
import { buildHttp, listenHttp } from '../api/http.ts';
import { buildMetrics, httpMetrics, metricsPage, processMetrics } from '../api/metrics.ts';
import { systemClock } from '../base/clock.ts';
import { HttpServers } from '../base/http-servers.ts';
import type { Unit } from '../base/lifecycle.ts';
import { subsystem } from '../base/log.ts';
import type { StatusPart } from '../base/status-part.ts';
import type { LogStatus } from '../base/log-output.ts';
import { Repairs } from '../base/repairs.ts';
import type { Config } from '../config/schema.ts';
import { ForwardRules } from '../firewall/forward-rules.ts';
import { versions } from '../host/version.ts';
import { deferAccept, duplicate, monotonicNs, netnsCookie } from '../kernel/host.ts';
import { usesDevices } from '../model/device.ts';
import { SourceController } from '../services/controller/source-controller.ts';
import { LocalAddresses } from '../source/netlink/local-addresses.ts';
import type { AgentView } from '../status/view.ts';
import type { OpenDatapath } from './datapath.ts';
import { buildHealth } from './health.ts';
import { buildHooks, deviceTables } from './hooks.ts';
import { ExplainService } from './explain.ts';
import { buildServices, type Services } from './services.ts';
import type { SourceAccess } from './source.ts';
import { buildStatus } from './status.ts';

export interface Agent {
  readonly units: readonly Unit[];
  readonly view: AgentView;
  /** Reads the source again, as SIGHUP requests. */
  reread(): Promise<void>;
  /** Resolves when the agent is ready for the first time. */
  readonly ready: Promise<void>;
}

export interface AgentOptions {
  readonly config: Config;
  readonly log: Logger;
  readonly access: SourceAccess;
  readonly opened: OpenDatapath;
  readonly logStatus: () => LogStatus;
}

/** A unit made of a start function and a stop function. */
const unit = (name: string, start: () => Promise<void> | void, stop: () => Promise<void> | void): Unit => ({
  name,
  start: async () => start(),
  stop: async () => stop(),
});

/** A unit made of a part that can be started and stopped. */
const unitOf = (name: string, part: { start(): Promise<void> | void; stop(): Promise<void> | void }): Unit =>
  unit(
    name,
    () => part.start(),
    () => part.stop(),
  );

const nothing = (): void => undefined;

/** Builds everything and starts nothing. */
export function buildAgent({ config, log, access, opened, logStatus }: AgentOptions): Agent {
  const repairs = new Repairs(subsystem(log, 'repair'), systemClock);
  const onRepaired = (message: string): void => repairs.add(message);
  const { devices, subnets } = deviceTables();
  const facts = { netnsCookie: netnsCookie(), now: monotonicNs };
  const services = buildServices({ ...opened, config, log, access, facts, devices, onRepaired });
  const hooks = buildHooks({ ...opened, config, log, subnets, devices, pace: services.turns, onRepaired });
  const { localAddresses, sourceController } = buildAddresses(services, hooks, { subnets, log });
  const explain = new ExplainService({ config, datapath: opened.datapath, services, maps: opened.maps, held: hooks.held, devices });
  const apiLog = subsystem(log, 'api');
  const servers = new HttpServers({ calls: { deferAccept, duplicate } });
  // The health parts serve the page of all metrics. This page also contains the metrics of the health parts, so it is passed as a function.
  const health = buildHealth({ config, tables: services, servers, page: () => page(), log: subsystem(log, 'health') });
  const firewall = buildFirewall(config, onRepaired);
  const { view, statusLog } = buildStatus({
    ...{ ...opened, config, log: subsystem(log, 'status'), services, hooks, repairs, health, firewall, explain },
    ...{ localAddresses, logStatus },
  });
  const also = [processMetrics, eventLoopMetrics, httpMetrics(servers), health.metrics];
  const page = metricsPage(buildMetrics({ view, versions: versions(), also }), {
    clock: systemClock,
    onError: (err) => apiLog.error({ err }, 'the metrics cannot be computed'),
  });
  const reload = (): ReturnType<typeof hooks.reload> => {
    const report = hooks.reload();
    explain.close();
    return report;
  };
  const grpc = new GrpcServer({
    ...{ view, reload, handover: hooks.handover, socketPath: config.socket, socketGroup: config.socketGroup, log: apiLog },
    ...{ repairEveryMs: config.syncPeriod, onRepaired },
  });
  const http = buildHttp({ view, page, servers, clock: systemClock, log: apiLog });
  const listen = async (): Promise<void> => {
    if (config.http !== undefined) await listenHttp(http, config.http);
  };
  const ready = services.firstDone.then(() => {
    grpc.publishHealth();
    statusLog.start();
  });
  return {
    view,
    ready,
    reread: () => services.source.rescan(),
    units: [
      unit(
        'controller',
        () => startControllers(services, sourceController),
        () => stopControllers(services, sourceController),
      ),
      unitOf('local addresses', localAddresses),
      unit('explain', nothing, () => explain.close()),
      unit('sockets', hooks.startSockets, hooks.stopSockets),
      unit('devices', hooks.startDevices, hooks.stopDevices),
      unitOf('guard', hooks.guard),
      firewall,
      unit('reconcile', services.startLoops, services.stopLoops),
      ...health.units,
      unit(
        'source',
        () => services.source.start(),
        () => services.source.stop(),
      ),
      unit(
        'network policies',
        () => services.policies?.start(),
        () => services.policies?.stop(),
      ),
      // The status log starts when the agent becomes ready, because most problems are unknown before that.
      unit('status log', nothing, () => statusLog.stop()),
      unit('http', listen, () => http.close()),
      grpc,
    ],
  };
}

/** What concerns the rules of the host's firewall. Without programs on devices, no packet is translated that the firewall could drop. */
function buildFirewall(config: Config, onRepaired: (message: string) => void): Unit & StatusPart {
  if (!usesDevices(config)) return { ...unit('firewall', nothing, nothing), problems: () => [] };
  return new ForwardRules({ isAccepting: config.acceptForwarded, clock: systemClock, periodMs: config.syncPeriod, onRepaired });
}

/** The parts that follow the addresses of the node. */
function buildAddresses(
  services: Services,
  hooks: Pick<ReturnType<typeof buildHooks>, 'links'>,
  { subnets, log }: Pick<ReturnType<typeof deviceTables>, 'subnets'> & { readonly log: Logger },
) {
  const { addressSources, masqueradeSources, localAddresses: addresses } = services;
  const options = { clock: systemClock, log: subsystem(log, 'netlink') };
  return {
    localAddresses: new LocalAddresses({ addresses, subnets, sources: addressSources }, options),
    sourceController: new SourceController({ links: hooks.links, addresses: addressSources, sources: masqueradeSources }),
  };
}

function startControllers({ hostController, controller }: Services, sourceController: SourceController): void {
  hostController.start();
  controller.start();
  sourceController.start();
}

function stopControllers({ hostController, controller }: Services, sourceController: SourceController): void {
  sourceController.stop();
  hostController.stop();
  controller.stop();
}
