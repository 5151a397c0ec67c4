// SPDX-License-Identifier: Apache-2.0
// Tests fragmented datagrams, a path whose MTU is smaller in the middle than at its ends, and packets whose TTL expires on the way.
// The traffic runs between two nodes and a client outside the cluster, without socket translation. nftables counters at both ends
// count the packets. An answer contains every byte of its request.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { service, slices } from '../support/lab/daemon.ts';
import { labNodes } from '../support/lab/lab.ts';
import { timeExceeded, Witness } from '../support/lab/witness.ts';

const families = ['IPv4', 'IPv6'] as const;
type Family = (typeof families)[number];
const nodeA = labNodes['node-a'].addresses;
const vip = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `10.96.3.${n}`, IPv6: `fd00:96::3:${n}` });
const nodePort = (n: number, spec: object = {}): object =>
  service(`port-${n}`, vip(n), { nodePorts: { web: 30_000 + n, dns: 31_000 + n }, spec: { type: 'NodePort', ...spec } });

/** Services 1 to 3: a backend on this node, one on the other node, and one on this node that sees the client address. */
const backendOf: Readonly<Record<number, string>> = { 1: 'pod1', 2: 'pod101', 3: 'pod1' };

let cluster: Cluster;

beforeAll(async () => {
  cluster = await Cluster.start({
    ...{ pods: [1, 9, 101], servers: [1, 101], hasSocketLb: false },
    objects: [
      ...[nodePort(1), ...slices('port-1', [1])],
      ...[nodePort(2), ...slices('port-2', [101])],
      ...[nodePort(3, { externalTrafficPolicy: 'Local' }), ...slices('port-3', [1])],
    ],
  });
});

afterAll(() => cluster.close());

interface Way {
  readonly netns: string;
  readonly n: number;
  readonly address: string;
  readonly web: number;
  readonly dns: number;
}

/** The ways to each Service: its ClusterIP from an outside client, a pod and the node; its NodePort from an outside client and a pod. */
const ways = (family: Family): Way[] =>
  [1, 2, 3].flatMap((n) => [
    ...['client', 'pod9', 'node'].map((netns) => ({ netns, n, address: vip(n)[family], web: 80, dns: 53 })),
    ...['client', 'pod9'].map((netns) => ({ netns, n, address: nodeA[family], web: 30_000 + n, dns: 31_000 + n })),
  ]);

const expectAnswers = async ({ netns, n, address, dns, web }: Way, protocol: 'tcp' | 'udp', size: number): Promise<void> => {
  const count = protocol === 'tcp' ? 3 : 10;
  const { answers, failures } = await cluster.ask(netns, { protocol, address, port: protocol === 'tcp' ? web : dns, count, size });
  expect({ answers, failures }, `${netns} to Service ${n} at ${address}`).toEqual({
    answers: { [backendOf[n] ?? '']: count },
    failures: {},
  });
};

const tooBig = {
  IPv4: 'icmp type destination-unreachable icmp code frag-needed',
  IPv6: 'icmpv6 type packet-too-big',
};
const fragments = { fragments4: 'ip frag-off & 0x3fff != 0', fragments6: 'exthdr frag exists' };

describe.each(families.map((family) => ({ family })))('$family', ({ family }) => {
  test('datagrams of 4,000 bytes are delivered in both directions', async () => {
    const witnesses = ['client', 'pod1', 'pod101'].map((netns) => new Witness(cluster.lab, netns, fragments));
    for (const way of ways(family)) await expectAnswers(way, 'udp', 4000);
    // Each datagram arrives in three fragments.
    for (const witness of witnesses) {
      expect(witness.take()[family === 'IPv4' ? 'fragments4' : 'fragments6']).toBeGreaterThanOrEqual(3 * 20);
      witness.close();
    }
  });

  test('probes with increasing TTL get an error from every hop, and then reach the backend', async () => {
    for (const netns of ['outside', 'node-b', 'node']) {
      cluster.lab.sysctl(netns, 'net.ipv4.icmp_ratelimit', '0');
      cluster.lab.sysctl(netns, 'net.ipv6.icmp.ratelimit', '0');
    }
    const router = { IPv4: '172.20.0.254', IPv6: 'fd00:20::254' };
    // Errors of hops behind the translation have the frontend as their source, as with netfilter. The node itself is such a hop.
    const hopsOf = ({ netns, n, address }: Way): string[] => [
      ...(netns === 'client' ? [router[family]] : []),
      address,
      ...(n === 2 ? [address, address] : []),
    ];
    for (const way of ways(family).filter(({ netns }) => netns !== 'node')) {
      const hops = hopsOf(way);
      const rules = hops.flatMap((hop) => [
        [`tcp${hops.indexOf(hop)}`, timeExceeded(hop, way.address, way.web)],
        [`udp${hops.indexOf(hop)}`, timeExceeded(hop, way.address, way.dns)],
      ]);
      const witness = new Witness(cluster.lab, way.netns, Object.fromEntries(rules) as Record<string, string>);
      for (const [at, hop] of hops.entries()) {
        const what = `${way.netns} to Service ${way.n} at ${way.address}, TTL ${at + 1}: ${hop}`;
        witness.expire(at + 1, way.web);
        // For IPv4, TCP fails at once if the ICMP error contains the header of the connection. For IPv6, TCP of Linux fails only at
        // the first retransmission, after one second.
        const timeoutMs = family === 'IPv4' ? 5000 : 100;
        const tcp = await cluster.ask(way.netns, { protocol: 'tcp', address: way.address, port: way.web, count: 1, timeoutMs });
        if (family === 'IPv4') expect(tcp.failures, what).toEqual({ EHOSTUNREACH: 1 });
        expect(await witness.heard(), what).toEqual({ [`tcp${hops.indexOf(hop)}`]: 1 });
        witness.expire(at + 1, way.dns);
        await cluster.ask(way.netns, { protocol: 'udp', address: way.address, port: way.dns, count: 1, timeoutMs: 30 });
        expect(await witness.heard(), what).toEqual({ [`udp${hops.indexOf(hop)}`]: 1 });
      }
      for (const protocol of ['tcp', 'udp'] as const) {
        witness.expire(hops.length + 1, protocol === 'tcp' ? way.web : way.dns);
        await expectAnswers(way, protocol, 5);
      }
      witness.close();
    }
  });
});

test.for(families.map((family) => ({ family })))(
  'a client receives ICMP errors about a small path MTU that exists only behind the node: $family',
  async ({ family }) => {
    cluster.lab.narrow(1400, 'node-b');
    const witness = new Witness(cluster.lab, 'client', { tooBig: tooBig[family] });
    for (const way of ways(family).filter(({ netns, n }) => netns === 'client' && n === 2)) {
      await expectAnswers(way, 'tcp', 200_000);
      expect(witness.take()['tooBig'], way.address).toBeGreaterThan(0);
    }
    witness.close();
  },
);

describe.each(families.map((family) => ({ family })))('a path of 1,280 bytes in the middle, $family', ({ family }) => {
  beforeAll(() => cluster.lab.narrow(1280));

  test('TCP transfers 200 kB in both directions', async () => {
    const witnesses = ['client', 'pod9', 'pod1', 'pod101'].map((netns) => new Witness(cluster.lab, netns, { tooBig: tooBig[family] }));
    for (const way of ways(family)) await expectAnswers(way, 'tcp', 200_000);
    // All senders received the smaller MTU: the clients outside and inside the cluster, and the backends of both nodes.
    for (const witness of witnesses) {
      expect(witness.take()['tooBig']).toBeGreaterThan(0);
      witness.close();
    }
  });

  test('datagrams of 4,000 bytes are delivered after the senders have learned the path MTU', async () => {
    for (const way of ways(family)) {
      // In IPv6 only the sender may fragment a datagram, so the first datagrams are lost.
      for (let attempt = 0; attempt < 3; attempt += 1)
        await cluster.ask(way.netns, { protocol: 'udp', address: way.address, port: way.dns, count: 1, size: 4000, timeoutMs: 200 });
      await expectAnswers(way, 'udp', 4000);
    }
  });
});
