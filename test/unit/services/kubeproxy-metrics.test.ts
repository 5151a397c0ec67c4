// SPDX-License-Identifier: Apache-2.0
// The metrics that have the names of kube-proxy: the statements of test/README.md, 16. sync-feed.test.ts tests the values that the
// sync feed reports.
import { describe, expect, test } from 'vitest';

import { KubeProxyMetrics, type ProxyView, withoutLocal } from '../../../daemon/services/health/kubeproxy-metrics.ts';
import { buildMetrics } from '../../../daemon/api/metrics.ts';
import { backendRow, desiredRow, frontendRow } from '../../support/builders.ts';
import { FakeView } from '../api/fixture.ts';

const idle: ProxyView = {
  sync: () => ({ lastUpdated: undefined, lastQueued: undefined }),
  changes: () => ({ services: { total: 0, pending: 0 }, slices: { total: 0, pending: 0 } }),
  ports: () => [],
};

function world(view: Partial<ProxyView> = {}) {
  const agent = new FakeView();
  const metrics = new KubeProxyMetrics();
  const page = buildMetrics({ view: agent, versions: agent.current, also: [metrics.part({ ...idle, ...view })] });
  /** The lines of the metrics with names of kube-proxy, without comments. With `name`, only the lines of that metric. */
  const lines = async (name = ''): Promise<string[]> =>
    (await page.scrape())
      .split('\n')
      .filter((line) => line.startsWith(`kubeproxy_${name}`))
      .map((line) => line.replace(`kubeproxy_${name}`, ''));
  return { metrics, lines, scrape: () => page.scrape() };
}

const upperBounds = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => /_bucket\{le="([^"]+)",ip_family="IPv4"\}/.exec(line)?.[1] ?? []);

describe('16: names, types and labels', () => {
  test('the page has exactly these metrics under kubeproxy_, in addition to those of Sluice', async () => {
    const { scrape } = world();
    const text = await scrape();
    const types = text.split('\n').filter((line) => line.startsWith('# TYPE kubeproxy_'));
    expect(types.map((line) => line.replace('# TYPE kubeproxy_', '')).toSorted()).toEqual([
      'network_programming_duration_seconds histogram',
      'proxy_healthz_total counter',
      'proxy_livez_total counter',
      'sync_full_proxy_rules_duration_seconds histogram',
      'sync_partial_proxy_rules_duration_seconds histogram',
      'sync_proxy_rules_duration_seconds histogram',
      'sync_proxy_rules_endpoint_changes_pending gauge',
      'sync_proxy_rules_endpoint_changes_total counter',
      'sync_proxy_rules_last_queued_timestamp_seconds gauge',
      'sync_proxy_rules_last_timestamp_seconds gauge',
      'sync_proxy_rules_no_local_endpoints_total gauge',
      'sync_proxy_rules_service_changes_pending gauge',
      'sync_proxy_rules_service_changes_total counter',
    ]);
    expect(text).toContain('sluice_ready 1');
  });

  test('every counter and every histogram has all its label values from the start, with the value 0', async () => {
    const { lines } = world();
    const counts = (await lines()).filter((line) => /_count\{|_total\{code|_changes_total/.test(line));
    const durations = ['sync', 'sync_full', 'sync_partial'].map((name) => `${name}_proxy_rules`);
    expect(counts.toSorted()).toEqual(
      [
        ...[...durations, 'network_programming'].flatMap((name) =>
          ['IPv4', 'IPv6'].map((family) => `${name}_duration_seconds_count{ip_family="${family}"} 0`),
        ),
        ...['healthz', 'livez'].flatMap((path) => ['200', '503'].map((code) => `proxy_${path}_total{code="${code}"} 0`)),
        ...['endpoint', 'service'].map((kind) => `sync_proxy_rules_${kind}_changes_total 0`),
      ].toSorted(),
    );
  });

  test('the metrics of changes have no labels, and their values are read at every scrape', async () => {
    let total = 7;
    const { lines } = world({ changes: () => ({ services: { total, pending: 1 }, slices: { total: 20, pending: 2 } }) });
    const wanted = (services: number): string[] => [
      'endpoint_changes_pending 2',
      'endpoint_changes_total 20',
      'service_changes_pending 1',
      `service_changes_total ${services}`,
    ];
    const changes = async (): Promise<string[]> => (await lines('sync_proxy_rules_')).filter((line) => line.includes('_changes_'));
    expect(await changes()).toEqual(wanted(7));
    total = 9;
    expect(await changes()).toEqual(wanted(9));
  });

  test('the timestamps "last" and "last queued" have the label ip_family, count seconds since 1970, and are absent before the first event', async () => {
    const { lines } = world({
      sync: (family) => (family === 'IPv4' ? { lastUpdated: 1_700_000_000_250, lastQueued: 1_700_000_000_125 } : idle.sync(family)),
    });
    expect(await lines('sync_proxy_rules_last_')).toEqual([
      'timestamp_seconds{ip_family="IPv4"} 1700000000.25',
      'queued_timestamp_seconds{ip_family="IPv4"} 1700000000.125',
    ]);
  });

  test('the metrics of probes have the label code', async () => {
    const { metrics, lines } = world();
    for (const status of [200, 200, 503]) metrics.probed('/healthz', status);
    metrics.probed('/livez', 200);
    expect(await lines('proxy_')).toEqual([
      ...['healthz_total{code="200"} 2', 'healthz_total{code="503"} 1'],
      ...['livez_total{code="200"} 1', 'livez_total{code="503"} 0'],
    ]);
  });
});

describe('16: histograms', () => {
  test('the histograms of syncs have 15 exponential buckets from 1 ms, with factor 2', async () => {
    const { metrics, lines } = world();
    metrics.synced({ family: 'IPv4', seconds: 0.0015, isFull: true });
    const wanted = Array.from({ length: 15 }, (_, power) => String(2 ** power / 1000));
    for (const name of ['sync_proxy_rules', 'sync_full_proxy_rules']) {
      expect(upperBounds(await lines(`${name}_duration_seconds`))).toEqual([...wanted, '+Inf']);
    }
  });

  test('each sync is counted in the histogram of all syncs, and in the histogram of either full or partial syncs', async () => {
    const { metrics, lines } = world();
    metrics.synced({ family: 'IPv4', seconds: 2, isFull: true });
    metrics.synced({ family: 'IPv4', seconds: 1, isFull: false });
    metrics.synced({ family: 'IPv6', seconds: 4, isFull: false });
    const sums = (await lines('sync_')).filter((line) => line.includes('_duration_seconds_sum'));
    expect(sums.map((line) => line.replace('proxy_rules_duration_seconds_sum', ''))).toEqual([
      '{ip_family="IPv4"} 3',
      '{ip_family="IPv6"} 4',
      'full_{ip_family="IPv4"} 2',
      'full_{ip_family="IPv6"} 0',
      'partial_{ip_family="IPv4"} 1',
      'partial_{ip_family="IPv6"} 4',
    ]);
  });

  test('the histogram of network programming has buckets of 0.25, 0.5, 1..59 by 1, 60..115 by 5, and 120..300 by 30 s', async () => {
    const { metrics, lines } = world();
    metrics.programmed('IPv4', 0.3);
    const wanted = [0.25, 0.5];
    for (let second = 1; second < 60; second += 1) wanted.push(second);
    for (let second = 60; second <= 115; second += 5) wanted.push(second);
    for (let second = 120; second <= 300; second += 30) wanted.push(second);
    const got = await lines('network_programming_duration_seconds');
    expect(upperBounds(got)).toEqual([...wanted.map(String), '+Inf']);
    expect(got).toContain('_count{ip_family="IPv4"} 1');
  });

  test('the histogram of network programming also exists as a sluice_ metric, with the same observations and with buckets from 1 ms', async () => {
    const { metrics, scrape } = world();
    metrics.programmed('IPv4', 0.003);
    metrics.programmed('IPv6', 70);
    const text = await scrape();
    for (const name of ['kubeproxy', 'sluice'].map((prefix) => `${prefix}_network_programming_duration_seconds`)) {
      expect(text).toContain(`${name}_sum{ip_family="IPv4"} 0.003\n`);
      expect(text).toContain(`${name}_bucket{le="70",ip_family="IPv6"} 1\n`);
    }
    expect(text).toContain('sluice_network_programming_duration_seconds_bucket{le="0.002",ip_family="IPv4"} 0\n');
    expect(text).toContain('sluice_network_programming_duration_seconds_bucket{le="0.004",ip_family="IPv4"} 1\n');
  });
});

describe('16: no_local_endpoints_total counts, by traffic policy, Service ports whose usable endpoints are all on other nodes', () => {
  const clusterIP = frontendRow('10.96.0.10', { policy: 'Local' });
  const nodePort = frontendRow('192.0.2.1', { type: 'NodePort', policy: 'Local', port: 30_080 });
  const vip = frontendRow('192.0.2.9', { type: 'LoadBalancer', policy: 'Local' });
  const remote = backendRow('10.1.0.1');
  const local = backendRow('10.1.0.2', { isLocal: true, isLocallyUsable: true });
  const draining = backendRow('10.1.0.3', { isUsable: false, isLocal: true, isLocallyUsable: true });
  const unready = backendRow('10.1.0.4', { isUsable: false, isServing: false });
  test.for([
    { name: 'Local and only remote endpoints: internal', frontends: [clusterIP], backends: [remote], want: [1, 0] },
    { name: 'Local and only remote endpoints: external, once per port', frontends: [nodePort, vip], backends: [remote], want: [0, 1] },
    { name: 'both policies', frontends: [clusterIP, nodePort], backends: [remote], want: [1, 1] },
    { name: 'policy Cluster', frontends: [{ ...clusterIP, policy: 'Cluster' as const }], backends: [remote], want: [0, 0] },
    { name: 'an endpoint on this node', frontends: [clusterIP, nodePort], backends: [remote, local], want: [0, 0] },
    {
      name: 'an endpoint on this node that is serving while terminating',
      frontends: [clusterIP, nodePort],
      backends: [remote, draining],
      want: [0, 0],
    },
    { name: 'no endpoints: not counted', frontends: [clusterIP, nodePort], backends: [], want: [0, 0] },
    { name: 'no usable endpoint on any node: not counted', frontends: [clusterIP, nodePort], backends: [unready], want: [0, 0] },
  ])('ports without a local endpoint are counted: $name', ({ frontends, backends, want }) => {
    const counts = withoutLocal([desiredRow('web', frontends, backends)]).filter(({ family }) => family === 'IPv4');
    expect(counts.map(({ policy, count }) => [policy, count])).toEqual([
      ['internal', want[0]],
      ['external', want[1]],
    ]);
  });

  test('no_local_endpoints_total has the labels ip_family and traffic_policy, and a count can decrease', async () => {
    const v6 = desiredRow('web', [frontendRow('fd00::10', { policy: 'Local' })], [backendRow('fd01::1')]);
    let ports = [desiredRow('web', [nodePort], [remote]), desiredRow('api', [vip], [remote]), v6];
    const { lines } = world({ ports: () => ports });
    const wanted = (external: number, internal6: number): string[] => [
      '{ip_family="IPv4",traffic_policy="internal"} 0',
      `{ip_family="IPv4",traffic_policy="external"} ${external}`,
      `{ip_family="IPv6",traffic_policy="internal"} ${internal6}`,
      '{ip_family="IPv6",traffic_policy="external"} 0',
    ];
    expect(await lines('sync_proxy_rules_no_local_endpoints_total')).toEqual(wanted(2, 1));
    ports = [desiredRow('web', [nodePort], [remote])];
    expect(await lines('sync_proxy_rules_no_local_endpoints_total')).toEqual(wanted(1, 0));
  });
});
