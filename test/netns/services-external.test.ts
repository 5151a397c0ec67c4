// SPDX-License-Identifier: Apache-2.0
// NodePorts, load balancer addresses and external IPs on two nodes. For pods, node processes and a client behind a router, the tests
// check which backends serve and which source address they see (test/README.md, 9), and which requests are rejected or dropped
// (test/README.md, 4, 5, 6). Requests are counted at the backends.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LabRequest, Cluster } from '../support/lab/cluster.ts';
import { service, type ServiceExtras, slices } from '../support/lab/daemon.ts';
import { clientAddresses, labNodes, podAddresses } from '../support/lab/lab.ts';
import { OpenSocket } from '../support/lab/peers.ts';
import { repeatedSyns } from '../support/lab/retransmissions.ts';

const families = ['IPv4', 'IPv6'] as const;
type Family = (typeof families)[number];
const protocols = ['tcp', 'udp'] as const;
const everyWay = families.flatMap((family) => protocols.map((protocol) => ({ family, protocol })));
const nodeA = labNodes['node-a'].addresses;
const nodeB = labNodes['node-b'].addresses;

const clusterIPs = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `10.96.0.${n}`, IPv6: `fd00:96::${n}` });
const external = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `203.0.113.${n}`, IPv6: `fd00:203::${n}` });
const nodePorts = (n: number): { web: number; dns: number } => ({ web: 30_000 + n, dns: 31_000 + n });
const portOf = (protocol: 'tcp' | 'udp', n: number): number => (protocol === 'tcp' ? 30_000 + n : 31_000 + n);

const nodePortService = (name: string, n: number, externalTrafficPolicy: 'Cluster' | 'Local'): object =>
  service(name, clusterIPs(n), { nodePorts: nodePorts(n), spec: { type: 'NodePort', externalTrafficPolicy } });

/**
 * A Service with the load balancer addresses N and N + 1 and the external IP N + 2. Each test has its own Service, because a
 * client may reuse the source port of an old UDP flow, which keeps its backend.
 */
const balanced = (n: number, spec: object): object[] => {
  const ingress = [n, n + 1].flatMap((each) => [{ ip: external(each).IPv4 }, { ip: external(each).IPv6, ipMode: 'VIP' }]);
  const externalIPs = Object.values(external(n + 2));
  const extras: ServiceExtras = { spec: { type: 'LoadBalancer', externalIPs, ...spec }, status: { loadBalancer: { ingress } } };
  return [service(`balanced-${n}`, clusterIPs(n), extras), ...slices(`balanced-${n}`, [1, 101])];
};

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start({
    ...{ pods: [1, 9, 101, 109], servers: [1, 101], hasSocketLb: true },
    objects: [
      ...[nodePortService('both', 1, 'Cluster'), ...slices('both', [1, 101])],
      ...[nodePortService('elsewhere', 2, 'Cluster'), ...slices('elsewhere', [101])],
      ...[nodePortService('local', 3, 'Local'), ...slices('local', [1, 101])],
      ...[nodePortService('absent', 4, 'Local'), ...slices('absent', [101])],
      ...[nodePortService('no-backends', 5, 'Cluster'), ...slices('no-backends', [])],
      ...[nodePortService('no-backends-local', 6, 'Local'), ...slices('no-backends-local', [])],
      ...[...balanced(10, {}), ...balanced(20, { externalTrafficPolicy: 'Local', healthCheckNodePort: 32_020 })],
    ],
  });
});

afterAll(() => cluster.close());
beforeEach(() => cluster.seen());

/** The packets must be dropped: no answer, no ICMP error, and no server sees them. */
const expectSilence = async (netns: string, task: LabRequest): Promise<void> => {
  expect((await cluster.ask(netns, { ...task, count: 3, timeoutMs: 300 })).failures, `${netns} to ${task.address}`).toEqual({ timeout: 3 });
  expect(await cluster.seen()).toEqual({});
};
/** All requests must be answered, by exactly these servers, and each server must see this source address. */
const expectServed = async (netns: string, task: LabRequest, want: { servers: readonly string[]; source: string }): Promise<void> => {
  const result = await cluster.ask(netns, task);
  expect(result.failures, `${netns} to ${task.address}`).toEqual({});
  expect(result.peers).toEqual({ [`${task.address}:${task.port}`]: 40 });
  const seen = await cluster.seen();
  expect(Object.keys(seen).sort()).toEqual([...want.servers].sort());
  for (const clients of Object.values(seen)) expect(Object.keys(clients), `${netns} to ${task.address}`).toEqual([want.source]);
  expect(
    Object.values(seen)
      .flatMap((clients) => Object.values(clients))
      .reduce((sum, count) => sum + count),
  ).toBe(40);
};

describe.each(everyWay)('NodePort from outside, $family $protocol', ({ family, protocol }) => {
  test('with policy Cluster, pods of both nodes serve, and see the address of the node that received the request', async () => {
    const port = portOf(protocol, 1);
    await expectServed('client', { protocol, port, address: nodeA[family] }, { servers: ['pod1', 'pod101'], source: nodeA[family] });
    await expectServed('client', { protocol, port, address: nodeB[family] }, { servers: ['pod1', 'pod101'], source: nodeB[family] });
  });

  test('with policy Cluster, the only backend serves, although it is on the other node', async () => {
    const task = { protocol, port: portOf(protocol, 2), address: nodeA[family] };
    await expectServed('client', task, { servers: ['pod101'], source: nodeA[family] });
  });

  test('with policy Local, only pods of the same node serve, and see the address of the client', async () => {
    const port = portOf(protocol, 3);
    const source = clientAddresses[family];
    await expectServed('client', { protocol, port, address: nodeA[family] }, { servers: ['pod1'], source });
    await expectServed('client', { protocol, port, address: nodeB[family] }, { servers: ['pod101'], source });
  });

  test('with policy Local, a node without a local backend drops packets, and the other node serves', async () => {
    const port = portOf(protocol, 4);
    await expectSilence('client', { protocol, port, address: nodeA[family], isConnected: true });
    await expectServed('client', { protocol, port, address: nodeB[family] }, { servers: ['pod101'], source: clientAddresses[family] });
  });

  test.for([{ n: 5 }, { n: 6 }])('a Service without any backend refuses at the first packet (Service $n)', async ({ n }) => {
    const task = { protocol, port: portOf(protocol, n), address: nodeA[family], isConnected: true, isStamped: true };
    const before = repeatedSyns(cluster.lab, 'client');
    const { failures, stamps } = await cluster.ask('client', { ...task, count: 21, parallel: 1 });
    expect(failures).toEqual({ ECONNREFUSED: 21 });
    // Only a SYN can be retransmitted; a datagram is sent once. The time depends on the load of the machine, so it is printed and
    // not checked.
    expect(repeatedSyns(cluster.lab, 'client')).toBe(before);
    const took = stamps.map(([asked, heard]) => heard - asked).sort((a, b) => a - b);
    console.log(`${family} ${protocol}, no backend: refused after ${took[10]?.toFixed(1)} ms (median of ${took.length})`);
  });
});

describe('load balancer address and external IP', () => {
  const insiders = (family: Family): { netns: string; node: string; own: string }[] => [
    { netns: 'pod9', node: nodeA[family], own: podAddresses(9)[family] },
    { netns: 'node', node: nodeA[family], own: nodeA[family] },
    { netns: 'pod109', node: nodeB[family], own: podAddresses(109)[family] },
    { netns: 'node-b', node: nodeB[family], own: nodeB[family] },
  ];

  test.for(everyWay)('with policy Cluster, every client is masqueraded as the node: $family $protocol', async ({ family, protocol }) => {
    const port = protocol === 'tcp' ? 80 : 53;
    for (const address of [external(10)[family], external(12)[family]]) {
      const servers = ['pod1', 'pod101'];
      await expectServed('client', { protocol, port, address }, { servers, source: nodeA[family] });
      // The node of the client translates, regardless of the route.
      for (const { netns, node } of insiders(family)) await expectServed(netns, { protocol, port, address }, { servers, source: node });
    }
  });

  test.for(everyWay)(
    'with policy Local, the policy applies only to clients outside the cluster: $family $protocol',
    async ({ family, protocol }) => {
      const port = protocol === 'tcp' ? 80 : 53;
      for (const address of [external(20)[family], external(22)[family]]) {
        await expectServed('client', { protocol, port, address }, { servers: ['pod1'], source: clientAddresses[family] });
        for (const { netns, own } of insiders(family))
          await expectServed(netns, { protocol, port, address }, { servers: ['pod1', 'pod101'], source: own });
      }
    },
  );

  test.for(everyWay)(
    'source ranges admit and block clients, and do not affect an open connection: $family $protocol',
    async ({ family, protocol }) => {
      const ranged = (...ranges: string[]): Promise<void> =>
        cluster.apply('ranged.yaml', ...balanced(30, { loadBalancerSourceRanges: ranges }));
      const port = protocol === 'tcp' ? 80 : 53;
      const [vip, later, other] = [30, 31, 32].map((n) => ({ protocol, port, address: external(n)[family] })) as [
        LabRequest,
        LabRequest,
        LabRequest,
      ];
      const servers = ['pod1', 'pod101'];

      await ranged(' 172.20.0.0/24', 'fd00:20::/64');
      await expectServed('client', vip, { servers, source: nodeA[family] });
      for (const netns of ['pod9', 'node', 'pod109']) await expectSilence(netns, vip);
      // The source ranges apply to load balancer addresses only.
      await expectServed('pod9', other, { servers, source: nodeA[family] });
      const held = await OpenSocket.start(cluster.lab, 'client', { kind: protocol, address: vip.address, port });
      const first = await held.ask();
      expect(servers).toContain(first);

      await ranged('10.244.0.0/16', '10.0.0.1/32', 'fd00:244::/32', 'fd00:10::1/128');
      await cluster.seen();
      await expectSilence('client', later);
      for (const netns of ['pod9', 'node']) expect((await cluster.ask(netns, later)).failures, netns).toEqual({});
      expect(await held.ask()).toBe(first);
      await held.process.kill();
    },
  );
});

test('no packet was dropped for another reason', async () => {
  const wanted = ['NO_BACKEND', 'NO_LOCAL_BACKEND', 'SOURCE_RANGE'];
  for (const daemon of cluster.daemons) expect((await cluster.drops(daemon)).filter((reason) => !wanted.includes(reason))).toEqual([]);
});
