// SPDX-License-Identifier: Apache-2.0
// ClusterIPs, the choice of masqueraded clients by --cluster-cidr, internalTrafficPolicy, NodePorts for clients on the nodes, and
// session affinity (test/README.md, 5, 6, 9 and 10). There are two nodes and a client outside the cluster. Requests are counted at
// the backends.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LabRequest, Cluster } from '../support/lab/cluster.ts';
import { service, slices } from '../support/lab/daemon.ts';
import { labNodes, podAddresses } from '../support/lab/lab.ts';

const families = ['IPv4', 'IPv6'] as const;
const protocols = ['tcp', 'udp'] as const;
const everyWay = families.flatMap((family) => protocols.map((protocol) => ({ family, protocol })));
const nodeA = labNodes['node-a'].addresses;
const nodeB = labNodes['node-b'].addresses;
/** Names of all servers, sorted. */
const all = ['pod1', 'pod101', 'pod2'];
const backends = [1, 2, 101];

const vip = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `10.96.1.${n}`, IPv6: `fd00:96::1:${n}` });
const portOf = (protocol: 'tcp' | 'udp', n: number): number => (protocol === 'tcp' ? 30_000 + n : 31_000 + n);
const nodePort = (n: number, spec: object): object =>
  service(`port-${n}`, vip(n), { nodePorts: { web: 30_000 + n, dns: 31_000 + n }, spec: { type: 'NodePort', ...spec } });
const clusterIP = (n: number, spec: object = {}): object => service(`internal-${n}`, vip(n), { spec });

/** Services 30 to 37, with or without affinity. */
const AFFINE = [30, 31, 32, 33, 34, 35, 36, 37];
const TIMEOUT_SECONDS = 4;
const affine = (isAffine: boolean): object[] => {
  const sessionAffinity = isAffine ? 'ClientIP' : 'None';
  const spec = { sessionAffinity, sessionAffinityConfig: { clientIP: { timeoutSeconds: TIMEOUT_SECONDS } } };
  return AFFINE.flatMap((n) => [nodePort(n, spec), ...slices(`port-${n}`, backends)]);
};

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  let cluster: Cluster;

  beforeAll(async () => {
    cluster = await Cluster.start({
      ...{ pods: [1, 2, 9, 101, 109], servers: backends, hasSocketLb },
      objects: [
        ...[clusterIP(1), ...slices('internal-1', backends)],
        ...[clusterIP(2, { internalTrafficPolicy: 'Local' }), ...slices('internal-2', backends)],
        ...[clusterIP(3, { internalTrafficPolicy: 'Local' }), ...slices('internal-3', [101])],
        ...[nodePort(10, {}), ...slices('port-10', backends)],
        ...[nodePort(11, { externalTrafficPolicy: 'Local' }), ...slices('port-11', backends)],
        ...[nodePort(12, { internalTrafficPolicy: 'Local' }), ...slices('port-12', [101])],
      ],
    });
  });

  afterAll(() => cluster.close());
  beforeEach(() => cluster.seen());

  const expectServed = async (netns: string, task: LabRequest, want: { servers: readonly string[]; source: string }): Promise<void> => {
    const { failures, peers } = await cluster.ask(netns, task);
    expect({ failures, peers }, `${netns} to ${task.address}`).toEqual({ failures: {}, peers: { [`${task.address}:${task.port}`]: 40 } });
    const seen = await cluster.seen();
    expect(Object.keys(seen).sort(), `${netns} to ${task.address}`).toEqual([...want.servers].sort());
    for (const clients of Object.values(seen)) expect(Object.keys(clients), `${netns} to ${task.address}`).toEqual([want.source]);
  };

  const insiders = (family: 'IPv4' | 'IPv6') => [
    { netns: 'pod9', own: podAddresses(9)[family], local: ['pod1', 'pod2'] },
    { netns: 'node', own: nodeA[family], local: ['pod1', 'pod2'] },
    { netns: 'pod109', own: podAddresses(109)[family], local: ['pod101'] },
    { netns: 'node-b', own: nodeB[family], local: ['pod101'] },
  ];

  describe.each(everyWay)('ClusterIP, $family $protocol', ({ family, protocol }) => {
    const port = protocol === 'tcp' ? 80 : 53;

    test('pods and nodes keep their source address; a client outside the cluster is masqueraded as the node', async () => {
      const task = { protocol, port, address: vip(1)[family] };
      for (const { netns, own } of insiders(family)) await expectServed(netns, task, { servers: all, source: own });
      await expectServed('client', task, { servers: all, source: nodeA[family] });
    });

    test('with internalTrafficPolicy Local, only backends of the same node serve; without such a backend packets are dropped', async () => {
      const task = { protocol, port, address: vip(2)[family] };
      for (const { netns, own, local } of insiders(family)) await expectServed(netns, task, { servers: local, source: own });
      await expectServed('client', task, { servers: ['pod1', 'pod2'], source: nodeA[family] });
      for (const netns of ['pod9', 'node', 'client']) {
        const lost = await cluster.ask(netns, { ...task, address: vip(3)[family], count: 3, timeoutMs: 300, isConnected: true });
        expect(lost.failures, netns).toEqual({ timeout: 3 });
      }
      expect(await cluster.seen()).toEqual({});
      await expectServed('pod109', { ...task, address: vip(3)[family] }, { servers: ['pod101'], source: podAddresses(109)[family] });
    });

    test('a pod can use a NodePort of its node', async () => {
      const task = { protocol, address: nodeA[family] };
      await expectServed('pod9', { ...task, port: portOf(protocol, 10) }, { servers: all, source: nodeA[family] });
      // Policy Local does not apply to clients inside the cluster.
      await expectServed('pod9', { ...task, port: portOf(protocol, 11) }, { servers: all, source: podAddresses(9)[family] });
      // internalTrafficPolicy applies to ClusterIPs only.
      await expectServed('pod9', { ...task, port: portOf(protocol, 12) }, { servers: ['pod101'], source: nodeA[family] });
    });

    // These packets go through lo, where no tc program is attached, so they need socket translation.
    const withSockets = hasSocketLb ? test : undefined;
    withSockets?.('a node process uses a NodePort of its own node', async () => {
      for (const n of [10, 11])
        await expectServed(
          'node',
          { protocol, address: nodeA[family], port: portOf(protocol, n) },
          { servers: all, source: nodeA[family] },
        );
    });

    test('a node process can use a NodePort of the other node', async () => {
      await expectServed('node', { protocol, address: nodeB[family], port: portOf(protocol, 10) }, { servers: all, source: nodeB[family] });
      const task = { protocol, address: nodeB[family], port: portOf(protocol, 11) };
      await expectServed('node', task, { servers: ['pod101'], source: nodeA[family] });
    });
  });

  describe('session affinity', () => {
    type Way = (typeof everyWay)[number];
    /** Names of the servers that answer 25 requests of a client to that Service, sorted. */
    const chosen = async (netns: string, n: number, { family, protocol, count = 25 }: Way & { count?: number }): Promise<string> => {
      const port = protocol === 'tcp' ? 80 : 53;
      const { answers, failures } = await cluster.ask(netns, { protocol, port, address: vip(n)[family], count });
      expect(failures).toEqual({});
      return Object.keys(answers).sort().join();
    };

    test('a client keeps its backend on every frontend of the Service port', async () => {
      await cluster.apply('affine.yaml', ...affine(true));
      for (const way of everyWay) {
        for (const netns of ['client', 'pod9', 'node']) expect(all, netns).toContain(await chosen(netns, 30, way));
        const { family, protocol } = way;
        const first = await chosen('client', 30, way);
        const { answers } = await cluster.ask('client', { protocol, address: nodeA[family], port: portOf(protocol, 30) });
        expect(Object.keys(answers)).toEqual([first]);
      }
    });

    test('new connections extend the affinity, and without new connections the affinity ends', async () => {
      const renewed: Record<string, string> = {};
      /** Sends one request to Service 30 for each family and protocol. The same backend as before must answer. */
      const renew = async (): Promise<void> => {
        for (const way of everyWay) {
          const at = `${way.family} ${way.protocol}`;
          const server = await chosen('pod9', 30, { ...way, count: 1 });
          expect(server, at).toBe((renewed[at] ??= server));
        }
      };
      const ofAll = async (): Promise<Record<string, string>> => {
        const servers: Record<string, string> = {};
        for (const n of AFFINE) {
          for (const way of everyWay) servers[`${n} ${way.family} ${way.protocol}`] = await chosen('pod9', n, { ...way, count: 3 });
          // On a busy machine all these requests may take longer than the affinity timeout.
          await renew();
        }
        return servers;
      };
      const before = await ofAll();
      for (const server of Object.values(before)) expect(all).toContain(server);
      // Only Service 30 gets requests, for longer than the affinity timeout.
      for (const until = performance.now() + TIMEOUT_SECONDS * 1000 + 500; performance.now() < until;) await renew();
      const after = await ofAll();
      for (const server of Object.values(after)) expect(all).toContain(server);
      for (const { family, protocol } of everyWay) {
        const moved = AFFINE.filter((n) => after[`${n} ${family} ${protocol}`] !== before[`${n} ${family} ${protocol}`]);
        // With three backends, seven Services all choose the same backends again with a probability of 1 in 2187.
        expect(moved, `${family} ${protocol}`).not.toEqual([]);
        expect(moved).not.toContain(30);
      }
    });

    test('without session affinity, requests go to all backends again', async () => {
      await cluster.apply('affine.yaml', ...affine(false));
      for (const way of everyWay)
        for (const netns of ['client', 'pod9', 'node']) expect(await chosen(netns, 30, { ...way, count: 60 }), netns).toBe(all.join());
    });
  });

  test('no packet was dropped except for NO_LOCAL_BACKEND', async () => {
    for (const daemon of cluster.daemons)
      expect((await cluster.drops(daemon)).filter((reason) => reason !== 'NO_LOCAL_BACKEND')).toEqual([]);
  });
});
