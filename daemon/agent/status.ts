// SPDX-License-Identifier: Apache-2.0
// The wiring of the status: passes the parts of the agent to the read model in status/. This file has no logic of its own.
import type { Logger } from 'pino';
import type { Repairs } from '../base/repairs.ts';
import type { LogStatus } from '../base/log-output.ts';
import type { StatusPart } from '../base/status-part.ts';
import { rowSettings } from '../config/row-settings.ts';
import { systemClock } from '../base/clock.ts';
import { mapSizes } from '../bpf/map-sizes.ts';
import type { Config } from '../config/schema.ts';
import { EndpointRoutes } from '../host/endpoint-routes.ts';
import { Forwarding } from '../host/forwarding.ts';
import { versions } from '../host/version.ts';
import { usesDevices } from '../model/device.ts';
import { dropCounts } from '../maps/datapath-state.ts';
import { healthCheckPort } from '../services/health/local-endpoints.ts';
import { agentView } from '../status/agent-status.ts';
import { StatusLog } from '../status/status-log.ts';
import type { AgentView } from '../status/view.ts';
import { rowsOf } from '../table/table.ts';
import type { OpenDatapath } from './datapath.ts';
import type { buildHooks } from './hooks.ts';
import type { ExplainService } from './explain.ts';
import type { Services } from './services.ts';

export interface StatusOptions extends OpenDatapath {
  readonly config: Config;
  readonly log: Logger;
  readonly services: Services;
  readonly hooks: ReturnType<typeof buildHooks>;
  readonly repairs: Repairs;
  readonly health: StatusPart;
  readonly firewall: StatusPart;
  readonly explain: ExplainService;
  readonly localAddresses: StatusPart;
  readonly logStatus: () => LogStatus;
}

interface AgentStatusUnits {
  readonly view: AgentView;
  readonly statusLog: StatusLog;
}

export function buildStatus(options: StatusOptions): AgentStatusUnits {
  const { config, log, datapath, maps, services, hooks, repairs, health, firewall, explain, localAddresses, logStatus } = options;
  const { desired, source, loops, controller, hostController } = services;
  const forwarding = new Forwarding({
    ...{ serviceCidr: config.serviceCidr, hasSocketLb: config.socketLb, hasDevices: usesDevices(config) },
    ports: () => rowsOf(desired),
  });
  const { deviceController } = hooks;
  const endpointRoutes = new EndpointRoutes({
    ...{
      settings: config,
      ports: () => rowsOf(desired),
      judge: (ifindex) => deviceController.judge(ifindex),
      now: () => systemClock.now(),
    },
  });
  const sizes = mapSizes(config);
  const findings = {
    ...{ ...hooks.findings, firewall, networkPolicies: services.policies ?? policiesOfDirectory },
    node: {
      summary: () => services.nodePresence.summary(),
      problems: () => [...services.nodePresence.problems(), ...hostController.overlaps()],
    },
    mapSizes: { problems: () => datapath.sizeProblems() },
    devices: {
      summary: () => deviceController.summary(),
      problems: () => [...deviceController.missing(), ...endpointRoutes.problems()],
    },
  };
  const statusLog = new StatusLog({
    // The parts that are not listed here log their own problems.
    problems: () => [forwarding, deviceController, ...Object.values(findings)].flatMap((part) => part.problems()),
    conflicts: () => controller.conflicts(),
    ...{ clock: systemClock, log },
  });
  const view = agentView({
    ...{ node: config.node, versions: versions(), source },
    ...{ services: services.services, objects: services.objects, desired, otherTables: [services.ranges, services.host] },
    ...{ portLoop: loops.ports, loops, maps, findings, handover: hooks.handover },
    mapInfos: () => datapath.mapNames().map((name) => ({ ...datapath.map(name).info, flag: sizes[name]?.flag })),
    ...{ pressure: services.pressure, owners: services.owners },
    drops: () => dropCounts(datapath.map('lb_drops')),
    ...{ attachments: hooks.attachments, devices: () => deviceController.judged() },
    host: [forwarding, localAddresses, ...hooks.status, health],
    ...{ repairs, drift: hooks.guard, log: logStatus },
    conflicts: () => controller.conflicts(),
    conflictCount: () => controller.conflictCount,
    unserved: () => ({
      refused: [...controller.refused(), ...hostController.problems()],
      ...{ excluded: controller.excluded(), limited: controller.limited() },
    }),
    explain: (questions) => explain.explain(questions),
    explainReady: () => explain.ready(),
    ...{ ranges: services.ranges, settings: rowSettings(config) },
    healthCheckPort: (service) => healthCheckPort(services.services.get(service)),
  });
  return { view, statusLog };
}

/** NetworkPolicies in a directory are not reported, because nothing enforces them there and no user expects their enforcement. */
const policiesOfDirectory = { summary: () => 'not read from a directory', problems: () => [] };
