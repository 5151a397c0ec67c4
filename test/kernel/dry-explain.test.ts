// SPDX-License-Identifier: Apache-2.0
// The command `sluice explain --objects`: the JSON contract, the order of the answers to --flows, the flags of the daemon, and error
// messages. The command loads the read-only programs with temporary maps, so the test needs a kernel. No map or program may remain after
// a command.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runExplain } from '../../daemon/cli/explain.ts';
import { run } from '../../daemon/cli/run.ts';
import type { Explanation } from '../../daemon/model/explanation.ts';
import { heldBy } from '../support/lab/bpf-objects.ts';

const directory = mkdtempSync(join(tmpdir(), 'sluice-explain-'));
const objects = join(directory, 'objects');
const file = (name: string): string => join(directory, name);

const cluster = `
kind: List
items:
- kind: Service
  metadata: { name: web, namespace: shop }
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.10
    externalTrafficPolicy: Local
    loadBalancerSourceRanges: [203.0.113.0/24]
    ports: [{ name: http, port: 80, nodePort: 30080 }]
  status: { loadBalancer: { ingress: [{ ip: 192.0.2.9 }] } }
- { kind: Service, metadata: { name: bad }, spec: { clusterIP: 1 } }
- { kind: Service, metadata: { name: six }, spec: { clusterIP: 'fd00:96::a', ports: [{ port: 53, protocol: UDP }] } }
- kind: EndpointSlice
  metadata: { name: web-1, namespace: shop, labels: { kubernetes.io/service-name: web } }
  addressType: IPv4
  ports: [{ name: http, port: 8080 }]
  endpoints:
  - { addresses: [10.244.1.2], nodeName: n1 }
  - { addresses: [10.244.2.10], nodeName: n2 }
- { kind: ServiceCIDR, apiVersion: networking.k8s.io/v1, metadata: { name: c }, spec: { cidrs: [10.96.0.0/16] } }
`;
const flows = [
  { protocol: 'TCP', sourceIP: '10.244.1.7', sourcePort: 4242, destIP: '10.96.0.10', destPort: 80 },
  { protocol: 'TCP', sourceIP: '203.0.113.5', destIP: '192.0.2.9', destPort: 80 },
  { protocol: 'TCP', sourceIP: '8.8.8.8', destIP: '192.0.2.9', destPort: 80 },
  { protocol: 'TCP', sourceIP: '10.0.0.1', destIP: '10.0.0.1', destPort: 30_080 },
  { protocol: 'udp', sourceIP: 'fd00::7', destIP: 'fd00:96::a', destPort: 53, from: 'pod' },
  { protocol: 'TCP', sourceIP: '10.244.1.2', destIP: '10.96.3.3', destPort: 80 },
  { protocol: 'SCTP', sourceIP: '10.244.1.2', destIP: '1.1.1.1', destPort: 443 },
];

beforeAll(() => {
  mkdirSync(objects);
  writeFileSync(join(objects, 'a.yaml'), cluster);
  writeFileSync(file('node.json'), JSON.stringify({ name: 'n1', ips: ['10.0.0.1'], podCIDRs: ['10.244.1.0/24'] }));
  writeFileSync(file('flows.json'), JSON.stringify(flows));
});
afterAll(() => rmSync(directory, { recursive: true }));

async function sluice(...argv: string[]): Promise<{ exitCode: number; out: string; err: string }> {
  let [out, err] = ['', ''];
  const never = (): Promise<never> => Promise.reject(new Error('this must not be called'));
  const exitCode = await run(['--socket', '/nonexistent/s.sock', 'explain', ...argv], {
    ...{ env: {}, out: (text: string) => (out += text), err: (text: string) => (err += text) },
    ...{ explain: runExplain, plan: never, preflight: never, uninstall: never },
  });
  return { exitCode, out, err };
}

const dry = ['--objects', objects, '--node', file('node.json')];
/**
 * The BPF objects that this process keeps open by descriptors and by memory mappings. The command pins and attaches nothing, so the kernel
 * frees all other objects.
 */
const held = (): string[] => [...heldBy('self'), ...(readFileSync('/proc/self/maps', 'utf8').match(/bpf-map.*$/gm) ?? [])];

describe('explain --objects', () => {
  test('--flows: answers are an array in the same order, invalid objects are reported on stderr, no map remains', async () => {
    const before = held();
    const { exitCode, out, err } = await sluice('--flows', file('flows.json'), ...dry, '--cluster-cidr', '10.244.0.0/16', '-o', 'json');
    expect(err).toBe('sluice: a.yaml:13: Service default/bad spec.clusterIP: must be a string, is 1\n');
    expect(exitCode).toBe(0);
    const answers = JSON.parse(out) as Explanation[];
    const short = answers.map(({ verdict, frontend, candidates, masquerade }) => [verdict, frontend?.type ?? null, candidates, masquerade]);
    const [local, both] = [['10.244.1.2:8080'], ['10.244.1.2:8080', '10.244.2.10:8080']];
    expect(short).toEqual([
      ['DNAT', 'ClusterIP', both, false],
      ['DNAT', 'LoadBalancer', local, false],
      ['DROP', 'LoadBalancer', [], false],
      ['DNAT', 'NodePort', both, true],
      ['REJECT', 'ClusterIP', [], false],
      ['DROP', null, [], false],
      ['NONE', null, [], false],
    ]);
    expect(Object.keys(answers[0] ?? {})).toEqual(['verdict', 'frontend', 'candidates', 'backend', 'masquerade', 'reason', 'steps']);
    expect(answers[0]?.frontend).toEqual({ frontend: '10.96.0.10:80/TCP', service: 'shop/web:http', type: 'ClusterIP', scope: 'internal' });
    expect(held()).toEqual(before);
  });

  test('one packet: one JSON object, or its decisions as text; flags may be before or after the packet', async () => {
    const packet = ['tcp', '8.8.8.8', '10.96.0.10:80'];
    const json = await sluice('--masquerade-all', ...packet, ...dry, '-o', 'json');
    expect(JSON.parse(json.out)).toMatchObject({ verdict: 'DNAT', masquerade: true });
    const { out } = await sluice(...packet, ...dry, '--from', 'external');
    expect(out.split('\n').map((line) => line.trim().split(/ {2,}/)[0])).toEqual([
      'TCP 8.8.8.8 -> 10.96.0.10 port 80',
      'hook',
      'frontend',
      'policy',
      'masquerade',
      'backend',
      'backend',
      'verdict',
      '',
    ]);
  });

  test.for([
    { name: 'no packet', args: [...dry], want: 'pass PROTOCOL SOURCE:PORT DESTINATION:PORT' },
    { name: 'no node', args: ['tcp', '1.1.1.1', '10.96.0.10:80', '--objects', objects], want: '--objects requires --node FILE' },
    { name: 'an unknown protocol', args: ['icmp', '1.1.1.1', '10.96.0.10:80', ...dry], want: 'the packet.protocol' },
    {
      name: 'no destination port',
      args: ['tcp', '1.1.1.1', 'fd00::1', ...dry],
      want: 'the destination fd00::1 has no port: use [fd00::1]:PORT',
    },
    { name: 'two families', args: ['tcp', '1.1.1.1', '[fd00::1]:80', ...dry], want: 'are of different IP families' },
    { name: 'not an address', args: ['tcp', 'example', '10.96.0.10:80', ...dry], want: 'the source example is not an IP address' },
    { name: 'no daemon', args: ['tcp', '1.1.1.1', '10.96.0.10:80'], want: 'the socket /nonexistent/s.sock does not exist' },
  ])('$name: one error message', async ({ args, want }) => {
    const { exitCode, out, err } = await sluice(...args);
    expect(err).toContain(want);
    expect({
      isRefused: exitCode === 2 || exitCode === 6,
      out,
      lines: err
        .trimEnd()
        .split('\n')
        .filter((line) => !line.includes('a.yaml')).length,
    }).toEqual({ isRefused: true, out: '', lines: 1 });
  });
});
