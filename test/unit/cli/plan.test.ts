// SPDX-License-Identifier: Apache-2.0
// `sluice plan` with a real directory and a node file: the JSON, invalid arguments, and the differences to a running daemon.
import { describe, expect, test } from 'vitest';
import { runPlan } from '../../../daemon/cli/plan.ts';
import { run } from '../../../daemon/cli/run.ts';
import { dryRun } from '../../../daemon/offline/dry-run.ts';
import { parseNodeFile } from '../../../daemon/offline/node-file.ts';
import { hostSettings } from '../../support/builders.ts';
import { temporaryDirectory, writeFiles } from '../source/fixture.ts';

const list = `
apiVersion: v1
kind: List
items:
- kind: Service
  metadata: { name: web, namespace: shop }
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.10
    externalIPs: [192.0.2.1]
    externalTrafficPolicy: Local
    healthCheckNodePort: 32000
    sessionAffinity: ClientIP
    loadBalancerSourceRanges: [" 10.0.0.0/8 "]
    ports: [{ name: http, port: 80, nodePort: 30080 }]
  status: { loadBalancer: { ingress: [{ ip: 203.0.113.5 }] } }
- { kind: Service, metadata: { name: bad }, spec: { clusterIP: 1 } }
- kind: EndpointSlice
  metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
  addressType: IPv4
  ports: [{ name: http, port: 8080 }]
  endpoints:
  - { addresses: [10.244.1.2], nodeName: n1 }
  - { addresses: [10.244.2.10], nodeName: n2 }
  - { addresses: [10.244.2.9], nodeName: n2 }
`;
const plain = JSON.stringify({
  kind: 'Service',
  metadata: { name: 'plain' },
  spec: { clusterIP: 'fd00:96::a', ports: [{ port: 53, protocol: 'UDP' }] },
});
const node = JSON.stringify({ name: 'n1', ips: ['192.168.0.1', 'fd00::1'], podCIDRs: ['10.244.1.0/24'] });

function directoryWith(files: Record<string, string>): string {
  const directory = temporaryDirectory();
  writeFiles(directory, files);
  return directory;
}

async function sluice(...argv: string[]): Promise<{ exitCode: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const never = (): Promise<number> => Promise.reject(new Error('not called'));
  const exitCode = await run(['--socket', '/nonexistent/s.sock', ...argv], {
    ...{ env: {}, out: (text: string) => (out += text), err: (text: string) => (err += text) },
    ...{ plan: runPlan, explain: () => Promise.reject(new Error('not called')), preflight: never, uninstall: never },
  });
  return { exitCode, out, err };
}

describe('sluice plan', () => {
  test('plan -o json prints every frontend, sorted, with the backends of its policy; invalid objects are reported on stderr', async () => {
    const directory = directoryWith({ 'objects/a.yaml': list, 'objects/b.json': plain, 'node.json': node });
    const { exitCode, out, err } = await sluice(
      'plan',
      '--objects',
      `${directory}/objects`,
      '--node',
      `${directory}/node.json`,
      '-o',
      'json',
    );
    const problem = 'sluice: a.yaml:17: Service default/bad spec.clusterIP: must be a string, is 1\n';
    expect(err).toBe(`${problem}sluice: the plan is incomplete: 1 problem in ${directory}/objects, see above\n`);
    expect(exitCode).toBe(3);
    const common = { affinitySeconds: 10_800, sourceRanges: [], terminatingBackends: [], healthCheckNodePort: 32_000, contenders: [] };
    const external = { ...common, service: 'shop/web:http', scope: 'external', backends: ['10.244.1.2:8080'], policy: 'Local' };
    expect(JSON.parse(out)).toEqual([
      {
        ...{ ...common, frontend: '10.96.0.10:80/TCP', service: 'shop/web:http', type: 'ClusterIP', scope: 'internal', policy: 'Cluster' },
        backends: ['10.244.1.2:8080', '10.244.2.10:8080', '10.244.2.9:8080'],
      },
      { ...external, frontend: '192.0.2.1:80/TCP', type: 'ExternalIP' },
      { ...external, frontend: '192.168.0.1:30080/TCP', type: 'NodePort' },
      { ...external, frontend: '203.0.113.5:80/TCP', type: 'LoadBalancer', sourceRanges: ['10.0.0.0/8'] },
      {
        ...{ ...common, frontend: '[fd00:96::a]:53/UDP', service: 'default/plain:', type: 'ClusterIP', scope: 'internal' },
        ...{ policy: 'Cluster', backends: [], affinitySeconds: null, healthCheckNodePort: null },
      },
    ]);
    expect(Object.keys((JSON.parse(out) as object[])[0] ?? {})).toEqual([
      ...'frontend service type scope backends affinitySeconds sourceRanges'.split(' '),
      ...'policy terminatingBackends healthCheckNodePort contenders'.split(' '),
    ]);
  });

  test('plan prints a table without a daemon, and uses the flags of sluiced', async () => {
    const directory = directoryWith({ 'objects/a.yaml': list, 'node.yaml': 'name: n1\nips: [192.168.0.1]\n' });
    const args = ['plan', '--objects', `${directory}/objects`, '--node-port-addresses', '172.16.0.0/12', '--masquerade-all'];
    const { exitCode, out } = await sluice(...args, '--node', `${directory}/node.yaml`);
    expect(exitCode).toBe(3);
    expect(out).toMatchInlineSnapshot(`
      "Frontend             Service         Type                   Scope      Backend            Affinity   Sources
      10.96.0.10:80/TCP    shop/web:http   ClusterIP              internal   10.244.1.2:8080    10800s     any
                                                                             10.244.2.10:8080
                                                                             10.244.2.9:8080
      192.0.2.1:80/TCP     shop/web:http   ExternalIP (Local)     external   10.244.1.2:8080    10800s     any
      203.0.113.5:80/TCP   shop/web:http   LoadBalancer (Local)   external   10.244.1.2:8080    10800s     10.0.0.0/8

      health check of shop/web: port 32000
      address set node: 192.168.0.1/32
      "
    `);
  });

  test.for([
    {
      name: 'a missing directory',
      args: ['--objects', '/nonexistent'],
      code: 3,
      want: 'cannot read the --objects directory /nonexistent: no such file or directory',
    },
    { name: 'a missing --objects', args: [], code: 2, want: '--objects DIR is required; sluice plan --help lists the flags' },
    {
      name: 'an invalid flag',
      args: ['--objects', '.', '--cluster-cidr', 'x'],
      code: 2,
      want: '--cluster-cidr x contains "x", which is not a CIDR',
    },
    {
      name: 'an unknown flag',
      args: ['--objects', '.', '--cluster', 'x'],
      code: 2,
      want: '--cluster is not a flag; sluice plan --help lists the flags',
    },
    {
      name: 'an argument that is not a flag',
      args: ['--objects', '.', '--masquerade-all', 'x'],
      code: 2,
      want: '"x" is not a flag; sluice plan --help lists the flags',
    },
  ])('plan rejects $name', async ({ args, code, want }) => {
    const directory = directoryWith({ 'node.json': node });
    const { exitCode, err, out } = await sluice('plan', ...args, '--node', `${directory}/node.json`, '-o', 'json');
    expect({ exitCode, out }).toEqual({ exitCode: code, out: '' });
    expect(err).toContain(want);
  });

  test('plan needs a node file or a daemon', async () => {
    expect(await sluice('plan', '--objects', '.')).toMatchObject({ exitCode: 6, out: '' });
  });
});

describe('the node file', () => {
  test.for([
    { text: '{"ips": []}', want: 'node file name: must be a string, is missing' },
    { text: '{"name": "n", "ips": ["x"]}', want: 'node file ips[0]: must be an IP address, is "x": the entry is ignored' },
    { text: '{"name": "n", "primaryIPs": {"IPv4": "fd00::1"}}', want: 'node file primaryIPs.IPv4: must be an IPv4 address, is "fd00::1"' },
    { text: '{"name": "n", "podCIDRs": ["10.0.0.0"]}', want: 'node file podCIDRs[0]: must be a CIDR, is "10.0.0.0": the entry is ignored' },
    { text: '[', want: /^node file: must be JSON or YAML/ },
  ])('the node file $text is rejected', ({ text, want }) => {
    expect(() => parseNodeFile(text)).toThrow(want);
  });

  const object = `
kind: Node
metadata: { name: n1, labels: { topology.kubernetes.io/zone: a } }
spec: { podCIDRs: [10.244.1.0/24] }
status: { addresses: [{ type: InternalIP, address: 192.168.0.1 }] }
`;
  test.for([
    {
      name: 'there is no Node object',
      file: { ips: ['10.0.0.1'], labels: { a: 'b' }, podCIDRs: ['10.1.0.0/24'] },
      primary: '10.0.0.1',
      pods: '10.1.0.0/24',
      labels: { a: 'b' },
    },
    {
      name: 'primary addresses come first',
      file: { ips: ['10.0.0.1', '10.0.0.2'], primaryIPs: { IPv4: '10.0.0.2' } },
      primary: '10.0.0.2',
    },
    { name: 'the Node object of the same name completes the file', file: {}, primary: '192.168.0.1' },
  ])(
    'the settings of the node are found: $name',
    ({ file, primary, pods = '10.244.1.0/24', labels = { 'topology.kubernetes.io/zone': 'a' } }) => {
      const directory = directoryWith({ 'objects/n.yaml': object, 'node.json': JSON.stringify({ name: 'n1', ...file }) });
      const found = dryRun({
        ...{ objects: `${directory}/objects`, node: { file: `${directory}/node.json` } },
        settings: hostSettings({ detectLocalMode: 'NodeCIDR' }),
      });
      expect(found.problems).toEqual([]);
      expect(found.node).toMatchObject({ name: 'n1', labels, podCIDRs: [pods] });
      expect(found.host).toMatchObject({ nodeAddresses: { IPv4: primary }, podDetection: { IPv4: 'cidr' } });
      expect([...found.ranges.keys()]).toContain(`pod ${pods}`);
    },
  );
});
