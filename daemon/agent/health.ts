// SPDX-License-Identifier: Apache-2.0
// Connects kube-proxy's health servers and metrics to the tables and loops of the Service load balancer.
import type { Logger } from 'pino';
import { systemClock } from '../base/clock.ts';
import type { HttpServers } from '../base/http-servers.ts';
import type { MetricsPage } from '../base/metrics.ts';
import type { Config } from '../config/schema.ts';
import { families } from '../model/address.ts';
import { healthAddresses, type HealthParts, healthParts } from '../services/health/health.ts';
import { familiesOfPort, type SyncedTable } from '../services/health/sync-feed.ts';
import type { Services } from './services.ts';

export interface HealthOptions {
  readonly config: Config;
  readonly tables: Services;
  readonly servers: HttpServers;
  /** All metrics of the agent. Called when a client asks for them. */
  readonly page: () => Promise<MetricsPage>;
  readonly log: Logger;
}

export function buildHealth({ config, tables, servers, page, log }: HealthOptions): HealthParts {
  const { services, slices, nodes, localAddresses, desired } = tables;
  const own = { nodes, localAddresses, nodeName: config.node };
  return healthParts({
    ...{ services, slices, desired, ...own },
    ...{ proxyHealth: config.healthzBindAddress, proxyMetrics: config.metricsBindAddress, servers, page },
    nodePortAddresses: () => healthAddresses({ ...own, settings: config }),
    ...{ clock: systemClock, schedule: setImmediate, log },
    synced: syncedTables(tables),
    ...{ computations: [tables.controller.work, tables.hostController.work], pace: tables.turns },
  });
}

/** Tables with their loops. A change of such a table counts as a sync of the proxy. */
function syncedTables({ desired, host, ranges, loops }: Services): SyncedTable[] {
  const familiesOf = () => families;
  return [
    { table: desired, loop: loops.ports, familiesOf: familiesOfPort },
    { table: host, loop: loops.host, familiesOf },
    { table: ranges, loop: loops.ranges, familiesOf },
  ];
}
