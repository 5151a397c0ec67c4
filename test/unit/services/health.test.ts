// SPDX-License-Identifier: Apache-2.0
// The health servers with a real Reconciler, connected as in the daemon. The test probes them from the first list of the sources
// until the node is deleted (test/README.md, 11, 12 and 16).
import { pino } from 'pino';
import { expect, test } from 'vitest';

import { buildMetrics, metricsPage } from '../../../daemon/api/metrics.ts';
import { familiesOfPort } from '../../../daemon/services/health/sync-feed.ts';
import { healthParts } from '../../../daemon/services/health/health.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { Lifecycle } from '../../../daemon/base/lifecycle.ts';
import { KernelError } from '../../../daemon/base/errors.ts';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import type { LocalAddress } from '../../../daemon/model/host.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../../daemon/model/node.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { Table } from '../../../daemon/table/table.ts';
import { Reconciler } from '../../../daemon/table/reconciler.ts';
import { backendRow, desiredRow, endpointRow, frontendRow, nodeRow, serviceRow, sliceRow } from '../../support/builders.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';
import { FakeView } from '../api/fixture.ts';
import { ask, freePorts, outcome } from './health-fixture.ts';

const scheduler = new ManualScheduler();
const table = <Row>(name: string): Table<string, Row> => new Table<string, Row>(name, scheduler.schedule);

test('the health servers report the state of the node from the first list until the node is deleted', async () => {
  const [proxyPort = 0, metricsPort = 0, servicePort = 0] = await freePorts(3);
  const clock = new FakeClock();
  const tables = {
    ...{ services: table<Service>('services'), slices: table<EndpointSlice>('slices') },
    ...{ nodes: table<Node>('nodes'), desired: table<DesiredPort>('desired') },
  };
  const { services, slices, nodes, desired } = tables;
  const initialized = [services, slices, nodes, desired].map((each) => each.registerSource('test'));
  let failure: KernelError | undefined;
  const loop = new Reconciler<string, DesiredPort>({
    ...{ table: desired, clock, schedule: scheduler.schedule, random: () => 0 },
    operations: {
      ...{ restore() {}, delete() {}, prune: () => true, freed: () => 0, freesAt: () => undefined },
      repair: () => [][Symbol.iterator](),
      update() {
        if (failure !== undefined) throw failure;
      },
    },
    log: { rowFailed() {}, rowRecovered() {}, stepFailed() {}, stepRecovered() {}, repaired() {} },
  });
  const health = healthParts({
    ...{ ...tables, localAddresses: new Table<string, LocalAddress>('local-addresses', scheduler.schedule) },
    ...{ nodeName: 'node-a', clock, schedule: scheduler.schedule, log: pino({ enabled: false }) },
    ...{ proxyHealth: { address: '0.0.0.0', port: proxyPort }, nodePortAddresses: () => undefined },
    ...{ proxyMetrics: { address: '127.0.0.1', port: metricsPort }, servers: new HttpServers(), page: () => page() },
    synced: [{ table: desired, loop, familiesOf: familiesOfPort }],
  });
  const view = new FakeView();
  const metrics = buildMetrics({ view, versions: view.current, also: [health.metrics] });
  const page = metricsPage(metrics, { clock, onError: (error) => expect.fail(String(error)) });
  const lifecycle = new Lifecycle({ units: health.units, clock });
  const settle = async (): Promise<void> => {
    for (let round = 0; round < 5; round += 1) {
      scheduler.flush();
      await Promise.resolve();
      await Promise.resolve();
    }
  };
  /** Results of /healthz, /livez and the health-check node port of the Service. */
  const probes = async (): Promise<(string | number)[]> => [
    await outcome({ port: proxyPort, path: '/healthz' }),
    await outcome({ port: proxyPort, path: '/livez' }),
    await outcome({ port: servicePort }),
  ];
  loop.start();
  await lifecycle.start();
  expect(await probes()).toEqual([200, 200, 'ECONNREFUSED']);

  nodes.upsert('node-a', nodeRow('node-a'));
  services.upsert('default/web', serviceRow({ type: 'LoadBalancer', externalPolicy: 'Local', healthCheckNodePort: servicePort }));
  slices.upsert('default/web-1', sliceRow({ endpoints: [endpointRow('10.1.0.1', { nodeName: 'node-a' })] }));
  const vip = frontendRow('192.0.2.9', { type: 'LoadBalancer', policy: 'Local' });
  const row = desiredRow('web', [vip], [backendRow('10.1.0.1', { isLocal: true, isLocallyUsable: true })]);
  desired.upsert(row.key, row);
  for (const done of initialized) done();
  await settle();
  expect([await probes(), health.problems()]).toEqual([[200, 200, 200], []]);

  failure = new KernelError({ op: 'map update', object: 'lb_slots', errno: 1, code: 'EPERM' });
  desired.upsert(row.key, { ...row, backends: [backendRow('10.1.0.2')] });
  await settle();
  clock.advance(60_000);
  await settle();
  expect(await probes()).toEqual([503, 503, 503]);
  failure = undefined;
  clock.advance(60_000);
  await settle();
  expect(await probes()).toEqual([200, 200, 200]);

  nodes.upsert('node-a', nodeRow('node-a', { isLeaving: true }));
  await settle();
  expect(await probes()).toEqual([503, 200, 200]);
  expect((await ask({ port: proxyPort, path: '/healthz' })).body).toContain('"nodeEligible":false,"healthy":true');

  const { body: text } = await ask({ port: metricsPort, path: '/metrics' });
  for (const line of [
    'kubeproxy_proxy_healthz_total{code="200"} 3',
    'kubeproxy_proxy_healthz_total{code="503"} 3',
    'kubeproxy_proxy_livez_total{code="200"} 4',
    'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",traffic_policy="external"} 1',
    'kubeproxy_sync_proxy_rules_service_changes_total 1',
    'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1',
    'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1',
  ]) {
    expect(text).toContain(`${line}\n`);
  }
  expect(await lifecycle.stop()).toEqual({ unstopped: [], failures: [] });
  expect(await probes()).toEqual(['ECONNREFUSED', 'ECONNREFUSED', 'ECONNREFUSED']);
});
