// SPDX-License-Identifier: Apache-2.0
// Builds the health parts of the proxy, which are compatible with kube-proxy: the feed of sync results, the server of /healthz and
// /livez, the health-check node ports of Services, kube-proxy's metrics and their port. Called by the agent, which starts the units.
import type { Logger } from 'pino';
import type { Clock } from '../../base/clock.ts';
import type { HttpServers } from '../../base/http-servers.ts';
import type { Unit } from '../../base/lifecycle.ts';
import { limitedLog } from '../../base/limited-log.ts';
import type { MetricPart, MetricsPage } from '../../base/metrics.ts';
import type { Pace } from '../../base/slices.ts';
import type { StatusPart } from '../../base/status-part.ts';
import { families } from '../../model/address.ts';
import type { DesiredPort } from '../../model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import type { Node } from '../../model/node.ts';
import type { Service } from '../../model/service.ts';
import { rowsOf, type Scheduler, type TableView } from '../../table/table.ts';
import { nodeContext } from '../desired/node-context.ts';
import { KubeProxyMetrics } from './kubeproxy-metrics.ts';
import type { ListenerEvent } from './listeners.ts';
import { NodeEligibility } from './node-eligibility.ts';
import { ProxyHealthServer } from './proxy-health.ts';
import { ProxyMetricsServer } from './proxy-metrics.ts';
import { ServiceHealth } from './service-health.ts';
import { type Computation, SyncFeed, type SyncedTable } from './sync-feed.ts';
import { SyncHealth } from './sync-health.ts';

export interface HealthOptions {
  readonly services: TableView<string, Service>;
  readonly slices: TableView<string, EndpointSlice>;
  readonly nodes: TableView<string, Node>;
  readonly desired: TableView<string, DesiredPort>;
  readonly nodeName: string;
  /** The tables and their loops. */
  readonly synced: readonly SyncedTable[];
  /** The work that computes these tables. Default: none that pauses. */
  readonly computations?: readonly Computation[];
  /** When work on changed objects pauses. Default: never. */
  readonly pace?: Pace;
  /** Listen address of /healthz and /livez. Undefined if they are not served. */
  readonly proxyHealth: { readonly address: string; readonly port: number } | undefined;
  /** Listen address of /metrics and /proxyMode. Undefined if they are not served. */
  readonly proxyMetrics: { readonly address: string; readonly port: number } | undefined;
  /** All metrics of the agent, not only those of these parts. */
  readonly page: () => Promise<MetricsPage>;
  readonly servers: Pick<HttpServers, 'create'>;
  /** Listen addresses of the health-check node ports. Undefined means all addresses. */
  readonly nodePortAddresses: () => readonly string[] | undefined;
  readonly localAddresses: TableView<string, LocalAddress>;
  readonly clock: Clock;
  readonly schedule: Scheduler;
  readonly log: Logger;
}

export interface HealthParts extends StatusPart {
  /** In start order. */
  readonly units: readonly Unit[];
  /** For buildMetrics(). */
  readonly metrics: MetricPart;
}

/** Settings and tables that determine the listen addresses of the health-check node ports. */
export interface HealthAddressOptions {
  readonly nodeName: string;
  readonly nodes: TableView<string, Node>;
  readonly localAddresses: TableView<string, LocalAddress>;
  readonly settings: HostSettings;
}

/**
 * Listen addresses of the health-check node ports: the NodePort addresses if the setting is a CIDR list, otherwise undefined, which
 * means all addresses (test/README.md, 11).
 */
export function healthAddresses({ nodeName, nodes, localAddresses, settings }: HealthAddressOptions): readonly string[] | undefined {
  if (typeof settings.nodePortAddresses === 'string') return undefined;
  const local = [...localAddresses.all()].map(([, row]) => row);
  const { nodePortAddresses } = nodeContext({ nodeName, node: nodes.get(nodeName), localAddresses: local, settings });
  return families.flatMap((family) => nodePortAddresses[family]);
}

/** Builds the parts. Starts nothing. */
export function healthParts(options: HealthOptions): HealthParts {
  const { services, slices, nodes, localAddresses, desired, nodeName, synced, servers, clock, schedule, log } = options;
  const { computations = [], pace } = options;
  const failed = limitedLog<[string]>(clock, {
    write: (message) => log.error(message),
    leftOut: (notLogged) => log.error({ notLogged }, 'further health check ports that cannot be opened are not logged; see sluice status'),
  });
  const changed = limitedLog<[string]>(clock, {
    write: (message) => log.info(message),
    leftOut: (notLogged) => log.info({ notLogged }, 'further changes of health check ports are not logged'),
  });
  const onEvent = ({ kind, message }: ListenerEvent): void => (kind === 'failed' ? failed : changed)(message);
  const kubeProxy = new KubeProxyMetrics();
  const sync = new SyncHealth();
  const feed = new SyncFeed({ services, slices, synced, computations, health: sync, metrics: kubeProxy, clock, schedule });
  const node = new NodeEligibility(nodes, nodeName);
  const isHealthy = (): boolean => sync.isHealthy(clock.now());
  const ofServices = new ServiceHealth({
    ...{ services, slices, nodeName, isHealthy, servers, clock, onEvent },
    ...{ addresses: options.nodePortAddresses, addressTables: [nodes, localAddresses] },
    ...(pace === undefined ? {} : { pace }),
  });
  const onResponse = kubeProxy.probed.bind(kubeProxy);
  const own = { servers, clock, onEvent };
  const { proxyHealth, proxyMetrics, page } = options;
  const ofProxy = proxyHealth === undefined ? undefined : new ProxyHealthServer({ ...own, at: proxyHealth, sync, node, onResponse });
  const ofMetrics = proxyMetrics === undefined ? undefined : new ProxyMetricsServer({ ...own, at: proxyMetrics, page });
  return {
    units: [
      { name: 'sync feed', start: async () => feed.start(), stop: async () => feed.stop() },
      { name: 'node eligibility', start: async () => node.start(), stop: async () => node.stop() },
      { name: 'service health', start: async () => ofServices.start(), stop: () => ofServices.stop() },
      { name: 'proxy health', start: async () => ofProxy?.start(), stop: async () => ofProxy?.stop() },
      { name: 'proxy metrics', start: async () => ofMetrics?.start(), stop: async () => ofMetrics?.stop() },
    ],
    metrics: kubeProxy.part({
      sync: (family) => sync.status(family, clock.now()),
      changes: () => feed.changes(),
      ports: () => rowsOf(desired),
    }),
    problems: () => [...ofServices.problems(), ...(ofProxy?.problems() ?? []), ...(ofMetrics?.problems() ?? [])],
  };
}
