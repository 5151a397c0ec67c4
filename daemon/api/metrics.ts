// SPDX-License-Identifier: Apache-2.0
// The Prometheus registry, filled from AgentView at each scrape. Metric names follow those of Cilium, with the prefix "sluice".
// It counts nothing itself: the counters are in the kernel and in the rows of the view. A counter whose label values are known
// exists from the start, with the value 0, so that rate() sees its first increase. Called by agent.ts.
import { setImmediate } from 'node:timers/promises';
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

import { cached } from '../base/cached.ts';
import type { Clock } from '../base/clock.ts';
import type { HttpServers } from '../base/http-servers.ts';
import type { MetricPart, MetricsPage } from '../base/metrics.ts';
import type { Versions } from '../model/versions.ts';
import { mapPressure } from '../status/severity.ts';
import type { AgentStatus, AgentView } from '../status/view.ts';

export interface Metrics {
  readonly contentType: string;
  /** The metrics in text format. Rejects when the view throws. */
  scrape(): Promise<string>;
}

/** Node.js and the process: CPU time, memory, event loop, garbage collection. */
export const processMetrics: MetricPart = (registry) => {
  collectDefaultMetrics({ register: registry });
  return () => undefined;
};

/** Metrics that count the connections of the HTTP servers. */
export const httpMetrics =
  (servers: Pick<HttpServers, 'connections'>): MetricPart =>
  (registry) => {
    const registers = [registry];
    const open = new Gauge({ name: 'sluice_http_connections', help: 'Open connections of all HTTP ports.', registers });
    const closed = new Counter({
      name: 'sluice_http_connections_evicted_total',
      help: 'Connections that were closed to make room for others, because their source or all sources together had too many.',
      registers,
    });
    return () => {
      open.set(servers.connections.open);
      closed.reset();
      closed.inc(servers.connections.closed);
    };
  };

/** Time in milliseconds for which a computed page of metrics is reused. Prometheus scrapes every 15 to 60 s. */
const PAGE_MS = 1000;

export interface PageOptions {
  readonly clock: Pick<Clock, 'now'>;
  /** Called once for each page that cannot be computed. */
  readonly onError: (error: unknown) => void;
}

/** The metrics for any number of callers: they are computed at most once a second, and simultaneous callers share the page. */
export function metricsPage(metrics: Metrics, { clock, onError }: PageOptions): () => Promise<MetricsPage> {
  const compute = async (): Promise<MetricsPage> => {
    try {
      return { contentType: metrics.contentType, body: Buffer.from(await metrics.scrape()) };
    } catch (error) {
      onError(error);
      throw error;
    }
  };
  return cached(compute, { ms: PAGE_MS, clock });
}

type Fill = (status: AgentStatus) => void;

export interface MetricsOptions {
  readonly view: AgentView;
  readonly versions: Versions;
  /** Further metrics, such as those of other folders of daemon/ and processMetrics. */
  readonly also?: readonly MetricPart[];
}

/** Registers every metric in a new registry, so that several sets of metrics can exist in one process. */
export function buildMetrics(options: MetricsOptions): Metrics {
  const registry = new Registry();
  const { version, commit, libbpf, kernel } = options.versions;
  const labelNames = ['version', 'commit', 'libbpf', 'kernel', 'node_version'];
  const build = new Gauge({
    name: 'sluice_build_info',
    help: 'Always 1; the labels contain the versions.',
    labelNames,
    registers: [registry],
  });
  build.set({ version, commit, libbpf, kernel, node_version: process.version }, 1);
  const fills = [...agentMetrics(registry), ...datapathMetrics(registry)];
  const others = (options.also ?? []).map((part) => part(registry));
  return {
    contentType: registry.contentType,
    scrape: async () => {
      const status = options.view.status();
      for (const fill of fills) fill(status);
      // Each part takes milliseconds if there are many Services. Requests and changes are processed between two parts.
      for (const fill of others) {
        await setImmediate();
        fill();
      }
      await setImmediate();
      return registry.metrics();
    },
  };
}

function agentMetrics(registry: Registry): Fill[] {
  const registers = [registry];
  const ready = new Gauge({ name: 'sluice_ready', help: '1 when the agent is ready, as reported by /readyz.', registers });
  const services = new Gauge({ name: 'sluice_services', help: 'Services with at least one ClusterIP.', registers });
  const frontends = new Gauge({ name: 'sluice_frontends', help: 'Frontends in the desired state.', registers });
  const backends = new Gauge({ name: 'sluice_backends', help: 'Backends of all Service ports, usable or not.', registers });
  const rows = new Gauge({
    name: 'sluice_reconcile_rows',
    help: 'Service ports by reconciliation status.',
    labelNames: ['status'],
    registers,
  });
  const problems = new Gauge({
    name: 'sluice_source_problems',
    help: 'Objects and files of a source that are invalid or unreadable.',
    labelNames: ['source'],
    registers,
  });
  const repairs = new Counter({
    name: 'sluice_repairs_total',
    help: 'Differences from the desired state, in the kernel or the bpffs, that were found and repaired.',
    registers,
  });
  const droppedLines = new Counter({ name: 'sluice_log_lines_dropped_total', help: 'Log lines that could not be written.', registers });
  return [
    ({ log }) => {
      droppedLines.reset();
      droppedLines.inc(log.droppedLines);
    },
    (status) => ready.set(status.ready ? 1 : 0),
    (status) => {
      repairs.reset();
      repairs.inc(status.repairs.total);
    },
    (status) => services.set(status.counts.services),
    (status) => frontends.set(status.counts.frontends),
    (status) => backends.set(status.counts.backends),
    ({ reconcile }) => {
      rows.set({ status: 'done' }, reconcile.done);
      rows.set({ status: 'pending' }, reconcile.pending);
      rows.set({ status: 'error' }, reconcile.error);
    },
    ({ sources }) => {
      problems.reset();
      for (const source of sources) problems.set({ source: source.name }, source.problems.length);
    },
  ];
}

function datapathMetrics(registry: Registry): Fill[] {
  const registers = [registry];
  const drops = new Counter({ name: 'sluice_drop_count_total', help: 'Packets dropped, by reason.', labelNames: ['reason'], registers });
  const bytes = new Counter({
    name: 'sluice_drop_bytes_total',
    help: 'Bytes of dropped packets, by reason.',
    labelNames: ['reason'],
    registers,
  });
  const labelNames = ['map_name'];
  const capacity = new Gauge({ name: 'sluice_bpf_map_capacity', help: 'Maximum number of entries of a BPF map.', labelNames, registers });
  const pressure = new Gauge({
    name: 'sluice_bpf_map_pressure',
    help: 'Used share of the capacity of a BPF map, from 0 to 1.',
    labelNames,
    registers,
  });
  return [
    (status) => {
      drops.reset();
      bytes.reset();
      for (const drop of status.drops) {
        drops.inc({ reason: drop.reason }, Number(drop.packets));
        bytes.inc({ reason: drop.reason }, Number(drop.bytes));
      }
    },
    ({ maps }) => {
      capacity.reset();
      pressure.reset();
      for (const map of maps) {
        capacity.set({ map_name: map.name }, map.capacity);
        const full = mapPressure(map);
        if (full !== undefined) pressure.set({ map_name: map.name }, full);
      }
    },
  ];
}
