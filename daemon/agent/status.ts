// SPDX-License-Identifier: Apache-2.0
// The wiring of the status: passes the parts of the agent to the read model in status/. No logic of its own.
import type { Repairs } from '../base/repairs.ts';
import type { StatusPart } from '../base/status-part.ts';
import { rowSettings } from '../config/row-settings.ts';
import type { Config } from '../config/schema.ts';
import { Forwarding } from '../host/forwarding.ts';
import { versions } from '../host/version.ts';
import { dropCounts } from '../maps/datapath-state.ts';
import { healthCheckPort } from '../services/health/local-endpoints.ts';
import { agentView } from '../status/agent-status.ts';
import type { AgentView } from '../status/view.ts';
import type { OpenDatapath } from './datapath.ts';
import type { buildHooks } from './hooks.ts';
import type { ExplainService } from './explain.ts';
import type { Services } from './services.ts';

export interface StatusOptions extends OpenDatapath {
  readonly config: Config;
  readonly services: Services;
  readonly hooks: ReturnType<typeof buildHooks>;
  readonly repairs: Repairs;
  readonly health: StatusPart;
  readonly explain: ExplainService;
}

export function buildStatus({ config, datapath, maps, services, hooks, repairs, health, explain }: StatusOptions): AgentView {
  const { desired, source, loops, controller } = services;
  const hasDevices = config.podInterfaces.length + config.uplinks.length > 0;
  const forwarding = new Forwarding({
    ...{ serviceCidr: config.serviceCidr, hasSocketLb: config.socketLb, hasDevices },
    ports: () => [...desired.all()].map(([, port]) => port),
  });
  return agentView({
    ...{ node: config.node, hasSocketLb: config.socketLb, versions: versions(), source },
    ...{ services: services.services, desired, otherTables: [services.ranges, services.host] },
    ...{ portLoop: loops.ports, otherLoops: [loops.ranges, loops.host], maps },
    mapInfos: () => datapath.mapNames().map((name) => datapath.map(name).info),
    ...{ pressure: services.pressure, owners: services.owners },
    drops: () => dropCounts(datapath.map('lb_drops')),
    attachments: hooks.attachments,
    host: [forwarding, ...hooks.status, health],
    ...{ repairs, drift: hooks.guard },
    conflicts: () => controller.conflicts(),
    explain: (questions) => explain.explain(questions),
    ...{ ranges: services.ranges, settings: rowSettings(config) },
    healthCheckPort: (service) => healthCheckPort(services.services.get(service)),
  });
}
