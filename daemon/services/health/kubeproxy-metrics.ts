// SPDX-License-Identifier: Apache-2.0
// kube-proxy's metrics under their own names (kube-proxy-semantics.md, 16), so that its dashboards and alerts go on. The
// histograms and probe counters are told what happens; all else is read from ProxyView at a scrape. What only iptables,
// nftables or conntrack can mean is not here. One of them is there again under our own name, for its bounds.
import { Counter, exponentialBuckets, Gauge, Histogram, linearBuckets, type Metric, type Registry } from 'prom-client';
import { families, type Family } from '../../model/address.ts';
import { type DesiredPort, type Scope, scopeOf } from '../../model/frontend.ts';
import type { MetricPart } from '../../base/metrics.ts';
import type { ProbePath } from './proxy-health.ts';

/** What the metrics ask for: snapshots of this moment. */
export interface ProxyView {
  /** Wall clock, ms since 1970. */
  sync(family: Family): { readonly lastUpdated: number | undefined; readonly lastQueued: number | undefined };
  /** Of Services and EndpointSlices: seen since the start, and not yet in effect. */
  changes(): { readonly services: ChangeCounts; readonly slices: ChangeCounts };
  ports(): Iterable<LocalPort>;
}

export interface ChangeCounts {
  readonly total: number;
  readonly pending: number;
}

type LocalPort = Pick<DesiredPort, 'family' | 'frontends' | 'backends'>;

/** The datapath has caught up, with success or not. */
export interface SyncDone {
  readonly family: Family;
  readonly seconds: number;
  /** Everything was compared, not only what changed. */
  readonly isFull: boolean;
}

const syncBuckets = exponentialBuckets(0.001, 2, 15);
const programmingBuckets = [0.25, 0.5, ...linearBuckets(1, 1, 59), ...linearBuckets(60, 5, 12), ...linearBuckets(120, 30, 7)];

/** kube-proxy's begin where its syncs end: ours take milliseconds. */
const fineBuckets = [...exponentialBuckets(0.001, 2, 8), ...programmingBuckets];

const histogram = (name: string, help: string, buckets: number[]) =>
  new Histogram({ name: `kubeproxy_${name}`, help, labelNames: ['ip_family'], buckets, registers: [] });
const gauge = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
  new Gauge({ name: `kubeproxy_${name}`, help, labelNames, registers: [] });
const counter = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
  new Counter({ name: `kubeproxy_${name}`, help, labelNames, registers: [] });

const programming = {
  name: 'network_programming_duration_seconds',
  help: 'From the change of an endpoint, as its EndpointSlice says, to the end of the sync that brings it into effect.',
};

export class KubeProxyMetrics {
  readonly #sync = histogram('sync_proxy_rules_duration_seconds', 'Duration of syncs of the datapath.', syncBuckets);
  readonly #full = histogram('sync_full_proxy_rules_duration_seconds', 'Duration of syncs of everything.', syncBuckets);
  readonly #partial = histogram('sync_partial_proxy_rules_duration_seconds', 'Duration of syncs of what changed.', syncBuckets);
  readonly #programming = histogram(programming.name, programming.help, programmingBuckets);
  readonly #fineProgramming = new Histogram({
    ...programming,
    ...{ name: `sluice_${programming.name}`, labelNames: ['ip_family'], buckets: fineBuckets, registers: [] },
  });
  readonly #probes = {
    '/healthz': counter('proxy_healthz_total', 'Answers of /healthz by status code.', ['code']),
    '/livez': counter('proxy_livez_total', 'Answers of /livez by status code.', ['code']),
  };

  synced({ family, seconds, isFull }: SyncDone): void {
    for (const each of [this.#sync, isFull ? this.#full : this.#partial]) each.observe({ ip_family: family }, seconds);
  }

  programmed(family: Family, seconds: number): void {
    for (const each of [this.#programming, this.#fineProgramming]) each.observe({ ip_family: family }, seconds);
  }

  probed(path: ProbePath, status: number): void {
    this.#probes[path].inc({ code: String(status) });
  }

  /** For buildMetrics(). */
  part(view: ProxyView): MetricPart {
    return (registry) => {
      const histograms = [this.#sync, this.#full, this.#partial, this.#programming, this.#fineProgramming];
      const pushed = [...histograms, ...Object.values(this.#probes)];
      const { metrics, fills } = pulled();
      for (const metric of [...pushed, ...metrics]) registry.registerMetric(metric as Parameters<Registry['registerMetric']>[0]);
      return () => {
        for (const fill of fills) fill(view);
      };
    };
  }
}

/** Metrics that are read at a scrape, and how. */
function pulled(): { metrics: Metric<string>[]; fills: ((view: ProxyView) => void)[] } {
  const synced = gauge('sync_proxy_rules_last_timestamp_seconds', 'When the datapath was last synced with success.', ['ip_family']);
  const queued = gauge('sync_proxy_rules_last_queued_timestamp_seconds', 'When a change was last queued for a sync.', ['ip_family']);
  const noLocal = gauge(
    'sync_proxy_rules_no_local_endpoints_total',
    'Service ports with traffic policy Local and usable endpoints, but none on this node.',
    ['ip_family', 'traffic_policy'],
  );
  const slices = changeMetrics('endpoint', 'EndpointSlices');
  const services = changeMetrics('service', 'Services');
  const fillTimes = (view: ProxyView): void => {
    for (const family of families) {
      const { lastUpdated, lastQueued } = view.sync(family);
      if (lastUpdated !== undefined) synced.set({ ip_family: family }, lastUpdated / 1000);
      if (lastQueued !== undefined) queued.set({ ip_family: family }, lastQueued / 1000);
    }
  };
  const fillChanges = (view: ProxyView): void => {
    const counts = view.changes();
    slices.fill(counts.slices);
    services.fill(counts.services);
  };
  const fillLocal = (view: ProxyView): void => {
    for (const { family, policy, count } of withoutLocal(view.ports())) noLocal.set({ ip_family: family, traffic_policy: policy }, count);
  };
  return { metrics: [synced, queued, ...slices.metrics, ...services.metrics, noLocal], fills: [fillTimes, fillChanges, fillLocal] };
}

function changeMetrics(kind: 'endpoint' | 'service', objects: string) {
  const pending = gauge(`sync_proxy_rules_${kind}_changes_pending`, `Changed ${objects} that are not yet in effect.`, []);
  const total = counter(`sync_proxy_rules_${kind}_changes_total`, `Changes of ${objects} since the start.`, []);
  const fill = (counts: ChangeCounts): void => {
    pending.set(counts.pending);
    total.reset();
    total.inc(counts.total);
  };
  return { metrics: [pending, total], fill };
}

/** How many ports of each family and policy have usable backends, but none that policy Local may use. */
export function withoutLocal(ports: Iterable<LocalPort>): { readonly family: Family; readonly policy: Scope; readonly count: number }[] {
  const counts = families.flatMap((family) => (['internal', 'external'] as const).map((policy) => ({ family, policy, count: 0 })));
  for (const { family, frontends, backends } of ports) {
    if (backends.some((backend) => backend.isLocallyUsable) || !backends.some((backend) => backend.isUsable)) continue;
    const scopes = new Set(frontends.filter((frontend) => frontend.policy === 'Local').map(scopeOf));
    for (const each of counts) if (each.family === family && scopes.has(each.policy)) each.count += 1;
  }
  return counts;
}
