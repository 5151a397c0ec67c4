// SPDX-License-Identifier: Apache-2.0
// `sluice plan` beside a running daemon: each kind of change is one line, equal states give no line, and the settings of the daemon are
// used. The daemon is a real gRPC server whose view is made from a dry run of the former objects.
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GrpcServer } from '../../../daemon/api/grpc.ts';
import { runPlan } from '../../../daemon/cli/plan.ts';
import { run } from '../../../daemon/cli/run.ts';
import { rowSettings } from '../../../daemon/config/row-settings.ts';
import { parseConfig } from '../../../daemon/config/resolve.ts';
import type { Config } from '../../../daemon/config/schema.ts';
import { type DryRun, dryRun } from '../../../daemon/offline/dry-run.ts';
import { healthCheckPort } from '../../../daemon/services/health/local-endpoints.ts';
import { scopeOf } from '../../../daemon/model/frontend.ts';
import { backendUse, type ServiceView } from '../../../daemon/status/view.ts';
import { FakeView, handover, status } from '../api/fixture.ts';
import { temporaryDirectory, writeFiles } from '../source/fixture.ts';

const node = {
  ...{ kind: 'Node', metadata: { name: 'node-a' }, spec: { podCIDRs: ['10.244.1.0/24'] } },
  status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
};
const spec = {
  ...{ type: 'LoadBalancer', clusterIP: '10.96.0.10', sessionAffinity: 'ClientIP', externalTrafficPolicy: 'Local' },
  ...{ healthCheckNodePort: 32_000, loadBalancerSourceRanges: ['10.0.0.0/8'], ports: [{ name: 'http', port: 80 }] },
};
const lb = { loadBalancer: { ingress: [{ ip: '203.0.113.5' }] } };
const service = (more: object = {}, name = 'web'): object => ({
  ...{ kind: 'Service', metadata: { name }, spec: { ...spec, ...more }, status: lb },
});
const first = { addresses: ['10.244.1.2'], nodeName: 'node-a' };
const second = { addresses: ['10.244.2.3'], nodeName: 'node-b' };
const slice = (...endpoints: object[]): object => ({
  ...{ kind: 'EndpointSlice', metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } } },
  ...{ addressType: 'IPv4', ports: [{ name: 'http', port: 8080 }], endpoints },
});
const cidr = (text: string): object => ({ kind: 'ServiceCIDR', metadata: { name: 'a' }, spec: { cidrs: [text] } });
const former = [node, service(), slice(first, second), cidr('10.96.0.0/16')];

let [directory, view] = ['', new FakeView()];
let server: GrpcServer;

beforeEach(async () => {
  directory = temporaryDirectory();
  view = new FakeView();
  server = new GrpcServer({ view, reload: () => ({ hooks: 0, milliseconds: 0 }), handover, socketPath: join(directory, 's.sock') });
  await server.start();
});
afterEach(() => server.stop());

const configOf = (...flags: string[]): Config => parseConfig(['--source', '/x', '--node', 'node-a', ...flags], {}, () => '');

function viewsOf({ ports, services }: DryRun): ServiceView[] {
  return [...ports.values()].map((port) => ({
    ...port,
    ...{ id: 1, isWanted: true, run: [], differences: [], row: { state: 'done', message: '', retries: 0 } },
    healthCheckNodePort: healthCheckPort(services.get(`${port.namespace}/${port.name}`)),
    frontends: port.frontends.map((each) => ({ ...each, scope: scopeOf(each), isWanted: true, isRealized: true })),
    backends: port.backends.map((each) => ({ ...each, use: backendUse(each) })),
  }));
}

/** Makes the daemon serve the former objects with these settings. */
function serve(config: Config): void {
  writeFiles(directory, { 'former/a.json': JSON.stringify({ kind: 'List', items: former }) });
  const served = dryRun({ objects: join(directory, 'former'), node: { name: 'node-a' }, settings: config });
  view.rows = viewsOf(served);
  const members = [...served.ranges.values()].filter(({ set }) => set !== 'clusterIP');
  view.current = {
    ...{ ...status, settings: rowSettings(config), conflicts: served.conflicts },
    addressSets: [...Map.groupBy(members, ({ set }) => set)].map(([name, rows]) => ({ name, cidrs: rows.map((each) => each.cidr) })),
    attachments: [
      { hook: 'ingress', target: 'eth0', kind: 'tcx', program: 'tc_uplink_in' },
      { hook: 'egress', target: 'eth0', kind: 'tcx', program: 'tc_uplink_out' },
      { hook: 'ingress', target: 'lxc1', kind: 'tcx', program: 'tc_pod_in' },
      { hook: 'egress', target: 'lxc1', kind: 'tcx', program: 'tc_pod_out' },
      { hook: 'connect4', target: '/sys/fs/cgroup', kind: 'cgroup', program: 'sock_connect4' },
    ],
  };
}

const settings = ['--uplinks', 'eth0', '--pod-interfaces', 'lxc', '--detect-local-mode', 'NodeCIDR', '--node-port-addresses', 'all'];

/** Returns the lines of the plan for the objects. */
async function plan(objects: readonly object[], ...flags: string[]): Promise<string[]> {
  serve(configOf(...settings));
  writeFiles(directory, { 'new/a.json': JSON.stringify({ kind: 'List', items: objects }) });
  let [out, err] = ['', ''];
  const never = (): Promise<never> => Promise.reject(new Error('not called'));
  const argv = ['--socket', join(directory, 's.sock'), 'plan', '--objects', join(directory, 'new'), ...flags];
  const exitCode = await run(argv, {
    ...{ env: {}, out: (text: string) => (out += text), err: (text: string) => (err += text) },
    ...{ plan: runPlan, explain: never, preflight: never, uninstall: never },
  });
  expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' });
  return out.trimEnd().split('\n');
}

const withService = (more: object): object[] => [node, service(more), slice(first, second), cidr('10.96.0.0/16')];
const withSlice = (...endpoints: object[]): object[] => [node, service(), slice(...endpoints), cidr('10.96.0.0/16')];
const [cluster, balancer, key] = ['10.96.0.10:80/TCP default/web:http', '203.0.113.5:80/TCP default/web:http', 'default/web:http/TCP/IPv4'];

describe('a plan', () => {
  test('a plan has no changes for the same objects, with the settings of the daemon', async () => {
    expect(await plan(former)).toEqual(['no changes']);
  });

  test.for<{ name: string; objects: object[]; flags?: string[]; want: string[] }>([
    {
      name: 'source ranges',
      objects: withService({ loadBalancerSourceRanges: ['10.0.0.0/8', '172.16.0.0/12'] }),
      want: [`~ ${balancer}: source ranges 10.0.0.0/8 -> 10.0.0.0/8, 172.16.0.0/12`],
    },
    {
      name: 'no source ranges any more',
      objects: withService({ loadBalancerSourceRanges: [] }),
      want: [`~ ${balancer}: source ranges 10.0.0.0/8 -> any`],
    },
    {
      name: 'no session affinity any more',
      objects: withService({ sessionAffinity: 'None' }),
      want: [`~ ${key}: session affinity ClientIP for 10800 s -> none`],
    },
    {
      name: 'the time-out of session affinity',
      objects: withService({ sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } }),
      want: [`~ ${key}: session affinity ClientIP for 10800 s -> ClientIP for 60 s`],
    },
    {
      name: 'the internal traffic policy',
      objects: withService({ internalTrafficPolicy: 'Local' }),
      want: [`~ ${cluster}: traffic policy Cluster -> Local`, `- ${cluster} => 10.244.2.3:8080`],
    },
    {
      name: 'the external traffic policy, and with it the health check',
      objects: withService({ externalTrafficPolicy: 'Cluster' }),
      want: [
        `~ ${balancer}: traffic policy Local -> Cluster`,
        `+ ${balancer} => 10.244.2.3:8080`,
        '- default/web: health check port 32000',
      ],
    },
    {
      name: 'the health check port',
      objects: withService({ healthCheckNodePort: 32_001 }),
      want: ['~ default/web: health check port 32000 -> 32001'],
    },
    {
      name: 'a backend that terminates',
      objects: withSlice(first, { ...second, conditions: { ready: false, serving: true, terminating: true } }),
      want: [`- ${cluster} => 10.244.2.3:8080`, `~ ${key} => 10.244.2.3:8080: state active -> terminating`],
    },
    {
      name: 'a backend that is not ready',
      objects: withSlice(first, { ...second, conditions: { ready: false, serving: false } }),
      want: [`- ${cluster} => 10.244.2.3:8080`, `~ ${key} => 10.244.2.3:8080: state active -> quarantined`],
    },
    {
      name: 'a frontend that two Services claim',
      objects: [...former, service({ clusterIP: '10.96.0.10', type: 'ClusterIP', healthCheckNodePort: 0 }, 'zoo')],
      want: [
        `+ conflict on 10.96.0.10:80/TCP: served for ${key}, not for default/zoo:http/TCP/IPv4`,
        `+ conflict on 203.0.113.5:80/TCP: served for ${key}, not for default/zoo:http/TCP/IPv4`,
        '+ default/zoo:http/TCP/IPv4: session affinity ClientIP for 10800 s',
      ],
    },
    {
      name: 'a Service CIDR',
      objects: [node, service(), slice(first, second), cidr('10.96.0.0/12')],
      want: ['+ address set serviceCIDR 10.96.0.0/12', '- address set serviceCIDR 10.96.0.0/16'],
    },
    {
      name: 'the pod CIDR of the node',
      objects: [{ ...node, spec: { podCIDRs: ['10.244.9.0/24'] } }, ...former.slice(1)],
      want: ['- address set pod 10.244.1.0/24', '+ address set pod 10.244.9.0/24'],
    },
    {
      name: 'the uplinks',
      objects: former,
      flags: ['--uplinks', 'eth1'],
      want: [
        '- device eth0: programs tc_uplink_in, tc_uplink_out',
        '+ device eth1: programs of an uplink',
        '~ setting uplinks: value eth0 -> eth1',
      ],
    },
    {
      // Which devices would be found is unknown, so the plan shows no change of devices.
      name: 'the uplinks to auto',
      objects: former,
      flags: ['--uplinks', 'auto'],
      want: ['~ setting uplinks: value eth0 -> auto'],
    },
    {
      name: 'the pod interfaces and masquerading',
      objects: former,
      flags: ['--pod-interfaces', 'veth', '--masquerade-all'],
      want: [
        '- device lxc1: programs tc_pod_in, tc_pod_out',
        '~ setting masquerade-all: value off -> on',
        '~ setting pod-interfaces: value lxc -> veth',
      ],
    },
  ])('a plan shows a change of $name', async ({ objects, flags = [], want }) => {
    expect(await plan(objects, ...flags)).toEqual(want);
  });

  test('a plan shows what an added Service adds, and what its removal removes, with one line for each frontend and backend', async () => {
    expect(await plan([node, cidr('10.96.0.0/16')])).toEqual([
      `- ${cluster}`,
      `- ${cluster} => 10.244.1.2:8080`,
      `- ${cluster} => 10.244.2.3:8080`,
      `- ${balancer}`,
      `- ${balancer} => 10.244.1.2:8080`,
      '- default/web: health check port 32000',
    ]);
    expect(await plan([...former, service({ clusterIP: '10.96.0.77', type: 'ClusterIP' }, 'zoo')])).toContain(
      '+ default/zoo:http/TCP/IPv4: session affinity ClientIP for 10800 s',
    );
  });
});
