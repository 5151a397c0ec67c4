// SPDX-License-Identifier: Apache-2.0
// The health of the proxy as kube-proxy shows it: the feed beside the control walk, the server of /healthz and /livez, the
// ports of Services, kube-proxy's metrics. Hung together here and started by agent.ts, after the loops and before the source.
import type { Logger } from 'pino';
import { KubeProxyMetrics } from '../services/health/kubeproxy-metrics.ts';
import type { ListenerEvent } from '../services/health/listeners.ts';
import type { MetricPart } from '../base/metrics.ts';
import { NodeEligibility } from '../services/health/node-eligibility.ts';
import { ProxyHealthServer } from '../services/health/proxy-health.ts';
import { ServiceHealth } from '../services/health/service-health.ts';
import { SyncFeed, type SyncedTable } from '../services/health/sync-feed.ts';
import { SyncHealth } from '../services/health/sync-health.ts';
import type { Clock } from '../base/clock.ts';
import type { Config } from '../config/schema.ts';
import type { ControlPlane } from './services.ts';
import { nodeContext } from '../services/desired/node-context.ts';
import type { Unit } from '../base/lifecycle.ts';
import { families } from '../model/address.ts';
import type { DesiredPort } from '../model/frontend.ts';
import type { LocalAddress } from '../model/host.ts';
import type { EndpointSlice } from '../model/endpoint-slice.ts';
import type { Node } from '../model/node.ts';
import type { Service } from '../model/service.ts';
import type { Scheduler, TableView } from '../table/table.ts';

export interface HealthOptions {
  readonly services: TableView<string, Service>;
  readonly slices: TableView<string, EndpointSlice>;
  readonly nodes: TableView<string, Node>;
  readonly desired: TableView<string, DesiredPort>;
  readonly nodeName: string;
  /** Asked when the feed starts; the loops run by then. */
  readonly synced: () => readonly SyncedTable[];
  /** Of /healthz and /livez. Undefined: not served. */
  readonly proxyHealth: { readonly address: string; readonly port: number } | undefined;
  /** Where the ports of Services listen. Undefined: on all addresses. */
  readonly nodePortAddresses: () => readonly string[] | undefined;
  readonly localAddresses: TableView<string, LocalAddress>;
  readonly clock: Clock;
  readonly schedule: Scheduler;
  readonly log: Logger;
}

export interface HealthParts {
  /** In start order. */
  readonly units: readonly Unit[];
  /** For buildMetrics(). */
  readonly metrics: MetricPart;
  /** What cannot be listened on, one sentence each. */
  problems(): string[];
}

/** Where the health-check ports of Services listen: on the NodePort addresses if these are a CIDR list, else on all (section 11). */
export function healthAddresses(config: Config, plane: ControlPlane): readonly string[] | undefined {
  if (typeof config.nodePortAddresses === 'string') return undefined;
  const localAddresses = [...plane.localAddresses.all()].map(([, row]) => row);
  const { nodePortAddresses } = nodeContext({
    nodeName: config.node,
    node: plane.nodes.get(config.node),
    localAddresses,
    settings: config,
  });
  return families.flatMap((family) => nodePortAddresses[family]);
}

/** Builds everything and starts nothing. */
export function healthParts(options: HealthOptions): HealthParts {
  const { services, slices, nodes, localAddresses, desired, nodeName, synced, clock, schedule, log } = options;
  const onEvent = ({ did, sentence }: ListenerEvent): void => (did === 'failed' ? log.error(sentence) : log.info(sentence));
  const kubeProxy = new KubeProxyMetrics();
  const sync = new SyncHealth();
  const feed = new SyncFeed({ services, slices, synced, health: sync, metrics: kubeProxy, clock, schedule });
  const node = new NodeEligibility(nodes, nodeName);
  const isHealthy = (): boolean => sync.isHealthy(clock.now());
  const ofServices = new ServiceHealth({
    ...{ services, slices, nodeName, isHealthy, clock, onEvent },
    ...{ addresses: options.nodePortAddresses, addressTables: [nodes, localAddresses] },
  });
  const onAnswer = kubeProxy.probed.bind(kubeProxy);
  const at = options.proxyHealth;
  const ofProxy = at === undefined ? undefined : new ProxyHealthServer({ at, sync, node, clock, onEvent, onAnswer });
  return {
    units: [
      { name: 'sync feed', start: async () => feed.start(), stop: async () => feed.stop() },
      { name: 'node eligibility', start: async () => node.start(), stop: async () => node.stop() },
      { name: 'service health', start: async () => ofServices.start(), stop: () => ofServices.stop() },
      { name: 'proxy health', start: async () => ofProxy?.start(), stop: async () => ofProxy?.stop() },
    ],
    metrics: kubeProxy.part({
      sync: (family) => sync.status(family, clock.now()),
      changes: () => feed.changes(),
      ports: () => new Map(desired.all()).values(),
    }),
    problems: () => [...ofServices.problems(), ...(ofProxy?.problems() ?? [])],
  };
}
