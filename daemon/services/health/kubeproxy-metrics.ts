// SPDX-License-Identifier: Apache-2.0
// kube-proxy's metrics under the names that kube-proxy uses (test/README.md, 16), so that existing dashboards and alerts keep
// working. Callers update the histograms and the probe counters; all other metrics are read from ProxyView at each scrape.
// Metrics that have a meaning only with iptables, nftables or conntrack are omitted. The programming duration also exists
// under a sluice_ name, with finer buckets. Histograms and counters exist from the start, with all their label values.
import { Counter, exponentialBuckets, Gauge, Histogram, linearBuckets, type Metric, type Registry } from 'prom-client';
import { families, type Family } from '../../model/address.ts';
import { type DesiredPort, type Scope, scopeOf } from '../../model/frontend.ts';
import type { MetricPart } from '../../base/metrics.ts';
import type { ProbePath } from './proxy-health.ts';

/** The values that are read at a scrape. */
export interface ProxyView {
  /** Both times are wall-clock times in ms since 1970. */
  sync(family: Family): { readonly lastUpdated: number | undefined; readonly lastQueued: number | undefined };
  /** Number of changes since the start, and number of changed objects that are not yet applied. */
  changes(): { readonly services: ChangeCounts; readonly slices: ChangeCounts };
  ports(): Iterable<LocalPort>;
}

export interface ChangeCounts {
  readonly total: number;
  readonly pending: number;
}

type LocalPort = Pick<DesiredPort, 'family' | 'frontends' | 'backends'>;

/** The end of a sync: every change has been tried, successfully or not. */
export interface SyncDone {
  readonly family: Family;
  readonly seconds: number;
  /** True if all rows were compared, not only changed rows. */
  readonly isFull: boolean;
}

const syncBuckets = exponentialBuckets(0.001, 2, 15);
const programmingBuckets = [0.25, 0.5, ...linearBuckets(1, 1, 59), ...linearBuckets(60, 5, 12), ...linearBuckets(120, 30, 7)];

/** The buckets of kube-proxy begin at 0.25 s. A sync of Sluice takes milliseconds, so the buckets of this metric begin at 1 ms. */
const fineBuckets = [...exponentialBuckets(0.001, 2, 8), ...programmingBuckets];

const histogram = (name: string, help: string, buckets: number[]) =>
  new Histogram({ name: `kubeproxy_${name}`, help, labelNames: ['ip_family' as const], buckets, registers: [] });
const gauge = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
  new Gauge({ name: `kubeproxy_${name}`, help, labelNames, registers: [] });
const counter = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
  new Counter({ name: `kubeproxy_${name}`, help, labelNames, registers: [] });

const programming = {
  name: 'network_programming_duration_seconds',
  help: 'Time from an endpoint change, according to its EndpointSlice, to the end of the sync that applies it.',
};

export class KubeProxyMetrics {
  readonly #sync = histogram('sync_proxy_rules_duration_seconds', 'Duration of syncs of the datapath.', syncBuckets);
  readonly #full = histogram('sync_full_proxy_rules_duration_seconds', 'Duration of full syncs of the datapath.', syncBuckets);
  readonly #partial = histogram(
    'sync_partial_proxy_rules_duration_seconds',
    'Duration of partial syncs, of changed rows only.',
    syncBuckets,
  );
  readonly #programming = histogram(programming.name, programming.help, programmingBuckets);
  readonly #fineProgramming = new Histogram({
    ...programming,
    ...{ name: `sluice_${programming.name}`, labelNames: ['ip_family' as const], buckets: fineBuckets, registers: [] },
  });
  readonly #probes = {
    '/healthz': counter('proxy_healthz_total', 'Responses of /healthz by status code.', ['code']),
    '/livez': counter('proxy_livez_total', 'Responses of /livez by status code.', ['code']),
  };

  constructor() {
    for (const ip_family of families) for (const each of this.#histograms()) each.zero({ ip_family });
    for (const each of Object.values(this.#probes)) for (const code of probeCodes) each.inc({ code }, 0);
  }

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
      const pushed = [...this.#histograms(), ...Object.values(this.#probes)];
      const { metrics, fills } = pulled();
      for (const metric of [...pushed, ...metrics]) registry.registerMetric(metric as Parameters<Registry['registerMetric']>[0]);
      return () => {
        for (const fill of fills) fill(view);
      };
    };
  }

  #histograms(): Histogram<'ip_family'>[] {
    return [this.#sync, this.#full, this.#partial, this.#programming, this.#fineProgramming];
  }
}

/** The status codes of the responses of /healthz and /livez. */
const probeCodes = ['200', '503'] as const;

/** The metrics that are read at a scrape, and the functions that read them. */
function pulled(): { metrics: Metric<string>[]; fills: ((view: ProxyView) => void)[] } {
  const synced = gauge('sync_proxy_rules_last_timestamp_seconds', 'Time of the last successful sync of the datapath.', ['ip_family']);
  const queued = gauge('sync_proxy_rules_last_queued_timestamp_seconds', 'Time at which a change was last queued for a sync.', [
    'ip_family',
  ]);
  const noLocal = gauge(
    'sync_proxy_rules_no_local_endpoints_total',
    'Service ports with traffic policy Local that have usable endpoints, but none on this node.',
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
  const pending = gauge(`sync_proxy_rules_${kind}_changes_pending`, `Changed ${objects} that are not yet applied to the datapath.`, []);
  const total = counter(`sync_proxy_rules_${kind}_changes_total`, `Changes of ${objects} since the agent started.`, []);
  const fill = (counts: ChangeCounts): void => {
    pending.set(counts.pending);
    total.reset();
    total.inc(counts.total);
  };
  return { metrics: [pending, total], fill };
}

/** Number of ports of each family and policy that have usable backends, but none in the Local set. */
export function withoutLocal(ports: Iterable<LocalPort>): { readonly family: Family; readonly policy: Scope; readonly count: number }[] {
  const counts = families.flatMap((family) => (['internal', 'external'] as const).map((policy) => ({ family, policy, count: 0 })));
  for (const { family, frontends, backends } of ports) {
    // Few Service ports have a policy Local. The backends of the others, of which there may be 100,000, are not read.
    const local = frontends.filter((frontend) => frontend.policy === 'Local');
    if (local.length === 0) continue;
    if (backends.some((backend) => backend.isLocallyUsable) || !backends.some((backend) => backend.isUsable)) continue;
    const scopes = new Set(local.map(scopeOf));
    for (const each of counts) if (each.family === family && scopes.has(each.policy)) each.count += 1;
  }
  return counts;
}
