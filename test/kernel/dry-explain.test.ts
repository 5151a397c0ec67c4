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
    ports: [{ name: http, port: 80, nodePort: 30080 }, { name: remote, port: 81 }]
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
- kind: EndpointSlice
  metadata: { name: web-2, namespace: shop, labels: { kubernetes.io/service-name: web } }
  addressType: IPv4
  ports: [{ name: remote, port: 8081 }]
  endpoints: [{ addresses: [10.244.2.10], nodeName: n2 }]
- { kind: Service, metadata: { name: head, namespace: shop }, spec: { clusterIP: None, ports: [{ port: 80 }] } }
- kind: Service
  metadata: { name: sticky }
  spec:
    clusterIP: 10.96.0.40
    sessionAffinity: ClientIP
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } }
    ports: [{ port: 80 }]
- kind: EndpointSlice
  metadata: { name: sticky-1, labels: { kubernetes.io/service-name: sticky } }
  addressType: IPv4
  ports: [{ name: '', port: 8080 }]
  endpoints: [{ addresses: [10.244.2.11], nodeName: n2 }]
- kind: Service
  metadata: { name: dns }
  spec: { clusterIP: 10.96.0.53, ports: [{ name: dns, port: 53, protocol: UDP }, { name: dns-tcp, port: 53 }] }
- kind: EndpointSlice
  metadata: { name: dns-1, labels: { kubernetes.io/service-name: dns } }
  addressType: IPv4
  ports: [{ name: dns, port: 5353, protocol: UDP }, { name: dns-tcp, port: 5353 }]
  endpoints: [{ addresses: [10.244.2.20], nodeName: n2 }]
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
  test('--flows prints an array of answers in the order of the packets, reports invalid objects on stderr, and leaves no map behind', async () => {
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
    expect(Object.keys(answers[0] ?? {})).toEqual('verdict frontend candidates moreCandidates backend masquerade reason steps'.split(' '));
    expect(answers[0]?.frontend).toEqual({ frontend: '10.96.0.10:80/TCP', service: 'shop/web:http', type: 'ClusterIP', scope: 'internal' });
    expect(held()).toEqual(before);
  });

  test('one packet gives one JSON object, or its decisions as text; flags may come before or after the packet', async () => {
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

  describe('a destination that is the name of a Service', () => {
    test.for([
      { destination: 'web.shop:http', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'web.shop:80', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'web.shop.svc:80', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'web.shop.svc.cluster.local:80', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'web.shop.svc.cluster.local.:http', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'shop/web:http', source: '10.244.1.7', want: '10.96.0.10:80/TCP' },
      { destination: 'six.default:53', source: 'fd00::7', protocol: 'udp', want: '[fd00:96::a]:53/UDP' },
    ])('the destination $destination from $source is the frontend $want', async ({ destination, source, protocol = 'tcp', want }) => {
      const { out } = await sluice(protocol, source, destination, ...dry, '-o', 'json');
      const { frontend, steps } = JSON.parse(out) as Explanation;
      expect(frontend?.frontend).toBe(want);
      expect(steps[0]).toMatchObject({ step: 'destination', text: expect.stringContaining('ClusterIP') as string });
    });

    test.for([
      { destination: 'web.default:80', want: 'no Service default/web with a ClusterIP is known: it does not exist, is headless' },
      { destination: 'head.shop:80', want: 'no Service shop/head with a ClusterIP is known: it does not exist, is headless' },
      { destination: 'web.shop:https', want: 'Service shop/web has no TCP port https: it has http (80/TCP), remote (81/TCP)' },
      { destination: 'web.shop:82', want: 'Service shop/web has no TCP port 82: it has http (80/TCP), remote (81/TCP)' },
      { destination: 'web.shop:http', protocol: 'udp', want: 'Service shop/web has no UDP port http: it has http (80/TCP)' },
      {
        destination: 'six.default:53',
        protocol: 'udp',
        want: 'Service default/six has no IPv4 ClusterIP, only IPv6: use a source of that family',
      },
      { destination: 'web:80', want: 'the destination web:80 has no namespace: use web.NAMESPACE:80' },
      { destination: 'web.shop', want: 'the destination web.shop has no port: use NAME.NAMESPACE:PORT or NAMESPACE/NAME:PORT' },
      { destination: 'www.example.org:80', want: 'is not the name of a Service: use NAME.NAMESPACE:PORT' },
    ])('the destination $destination is rejected', async ({ destination, protocol = 'tcp', want }) => {
      const { exitCode, out, err } = await sluice(protocol, '10.244.1.7', destination, ...dry);
      expect({ exitCode, out }).toEqual({ exitCode: 2, out: '' });
      expect(err).toContain(`sluice: ${want.startsWith('is ') ? `the destination ${destination} ` : ''}${want}`);
    });

    test('in a --flows file, destService can replace destIP and destPort', async () => {
      writeFileSync(file('named.yaml'), '[{ protocol: tcp, sourceIP: 10.244.1.7, destService: "shop/web:80" }]');
      const { out } = await sluice('--flows', file('named.yaml'), ...dry, '-o', 'json');
      expect(JSON.parse(out)).toMatchObject([{ verdict: 'DNAT', frontend: { frontend: '10.96.0.10:80/TCP' } }]);
      writeFileSync(file('both.yaml'), '[{ protocol: tcp, sourceIP: 10.244.1.7, destIP: 10.96.0.10, destService: "shop/web:80" }]');
      expect((await sluice('--flows', file('both.yaml'), ...dry)).err).toBe(
        `sluice: ${file('both.yaml')}[0].destService: must be given without destIP and destPort\n`,
      );
    });
  });

  describe('reasons in the answer', () => {
    const stepsOf = async (...argv: string[]): Promise<string[]> => {
      const { out } = await sluice(...argv, ...dry, '-o', 'json');
      return (JSON.parse(out) as Explanation).steps.map(({ step, text }) => `${step}: ${text}`);
    };

    test('the answer names the source ranges that drop a packet', async () => {
      const steps = await stepsOf('tcp', '8.8.8.8', '192.0.2.9:80');
      expect(steps).toContain('source ranges: the source must be in loadBalancerSourceRanges: 203.0.113.0/24');
      expect(steps.at(-1)).toBe(
        'verdict: DROP (SOURCE_RANGE): the source 8.8.8.8 is in none of the loadBalancerSourceRanges (203.0.113.0/24), so the packet is dropped',
      );
    });

    test('the answer names the source range that admits a packet', async () => {
      expect(await stepsOf('tcp', '203.0.113.5', '192.0.2.9:80')).toContain(
        'source ranges: the source is in 203.0.113.0/24, one of the loadBalancerSourceRanges',
      );
    });

    test('a packet whose source no other host may use is not translated, and the answer says why', async () => {
      expect((await stepsOf('tcp', '224.0.0.5', '192.0.2.9:80')).at(-1)).toBe(
        'verdict: NONE: a packet from 224.0.0.5 is not accepted here, because the source is martian, is an address of this node, or is rejected by rp_filter; the packet is not translated',
      );
    });

    test('the answer names the policy that leaves no backend', async () => {
      expect((await stepsOf('tcp', '203.0.113.5', '192.0.2.9:81')).at(-1)).toBe(
        'verdict: DROP (NO_LOCAL_BACKEND): externalTrafficPolicy is Local and all usable endpoints are on other nodes, so the packet is dropped',
      );
    });

    test('the answer says that session affinity has no backend for the source yet', async () => {
      expect(await stepsOf('tcp', '10.244.1.7', 'sticky.default:80', '--cluster-cidr', '10.244.0.0/16')).toContain(
        'affinity: session affinity ClientIP (600 s) has no backend for this source yet, and keeps the selected one from now on',
      );
    });
  });

  describe('connect() and sendto() of a process', () => {
    const answer = async (call: string[], protocol = 'udp', source = '10.0.0.1'): Promise<Explanation> =>
      JSON.parse((await sluice(protocol, source, 'dns.default:53', ...call, ...dry, '-o', 'json')).out) as Explanation;
    const hooks = ({ steps }: Explanation): string[] => steps.filter(({ step }) => step === 'hook').map(({ text }) => text);

    test('connect() of a UDP socket is left to the tc programs, and sendto() is translated', async () => {
      const connected = await answer(['--call', 'connect']);
      expect(hooks(connected)).toEqual([
        'the socket hook of a node process leaves connect() to the tc programs, unless it selects a backend on the node itself',
        'a socket that calls sendto() without connect() is translated by the socket hook too',
        'tc_uplink_out processes a packet from the node',
      ]);
      expect(connected.backend).toBe('10.244.2.20:5353');
      const unconnected = await answer(['--call', 'sendto']);
      expect(hooks(unconnected)).toEqual([
        'the socket hook of a node process translates sendto() before there is a packet',
        'a socket that calls connect() first is left to the tc programs',
      ]);
      expect(unconnected.reason).toBe('the socket is translated to 10.244.2.20:5353');
    });

    test('connect() of a TCP socket is translated by the socket hook', async () => {
      expect(hooks(await answer(['--call', 'connect'], 'tcp'))).toEqual([
        'the socket hook of a node process translates connect() before there is a packet',
      ]);
    });

    test('calls of a pod are translated by the same hooks as calls of the node', async () => {
      expect(hooks(await answer(['--call', 'sendto'], 'udp', '10.244.1.7'))[0]).toBe(
        'the socket hook of a pod translates sendto() before there is a packet',
      );
    });

    test('without --call, the answer describes what the tc program does', async () => {
      expect(hooks(await answer([]))).toEqual(['tc_uplink_out processes a packet from the node']);
    });

    test.for([
      { args: ['tcp', '10.0.0.1', 'dns.default:53', '--call', 'sendto'], want: 'sendto() is possible for UDP only' },
      {
        args: ['udp', '8.8.8.8', 'dns.default:53', '--call', 'connect'],
        want: 'connect() is a call of a pod or of the node, and the source 8.8.8.8 is external',
      },
      { args: ['udp', '10.0.0.1', 'dns.default:53', '--call', 'write'], want: '--call must be connect or sendto, is "write"' },
    ])('the command is refused: $want', async ({ args, want }) => {
      expect(await sluice(...args, ...dry)).toEqual({ exitCode: 2, out: '', err: expect.stringContaining(`sluice: ${want}\n`) as string });
    });
  });

  test('no program processes a packet on a device that is not among the uplinks', async () => {
    const packet = ['tcp', '203.0.113.5', '192.0.2.9:80', ...dry, '--uplinks', 'eth0', '-o', 'json', '--iface'];
    expect(JSON.parse((await sluice(...packet, 'eth0')).out)).toMatchObject({ verdict: 'DNAT' });
    expect(JSON.parse((await sluice(...packet, 'eth1')).out)).toMatchObject({
      verdict: 'NONE',
      reason: expect.stringContaining('the packet is not translated because no program is attached to eth1') as string,
      frontend: { type: 'LoadBalancer' },
    });
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
  ])('one error message is printed for $name', async ({ args, want }) => {
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
