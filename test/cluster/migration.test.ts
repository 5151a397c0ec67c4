// SPDX-License-Identifier: Apache-2.0
// The migration from the real kube-proxy to Sluice and back, on both nodes of a cluster. Open connections survive both, masqueraded ones
// among them, and new connections succeed all the time.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { askStatus } from '../../daemon/cli/client.ts';
import type { LabProcess } from '../support/lab/process.ts';
import { Client, OpenConnections } from '../support/lab/peers.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

const nodes = ['node-a', 'node-b'] as const;
/** Three backends, one of them on the other node. The names are sorted. */
const servers = ['pod1', 'pod101', 'pod2'];
/** Connections of one source in each IP family. Those of the client and of pod109 are to a NodePort and are masqueraded. */
const PER_SOURCE = { client: 20, pod109: 10, pod9: 12, node: 8 };
/** Between five new connections and the next five. Without it, the ephemeral ports would be used up by connections in TIME_WAIT. */
const PAUSE_MS = 100;
const MASQUERADED = 2 * (PER_SOURCE.client + PER_SOURCE.pod109);

let cluster: KubeCluster;
let clusterIPs: LabRequest[];
let nodePorts: LabRequest[];
/** What the test does now. */
let step = '';

beforeAll(async () => {
  cluster = await KubeCluster.start({ proxy: 'kube-proxy' });
  // nf_conntrack remembers a closed connection for two minutes. The test returns to kube-proxy sooner, with few ephemeral ports.
  for (const netns of ['node', 'node-b']) cluster.lab.sysctl(netns, 'net.netfilter.nf_conntrack_tcp_timeout_time_wait', '1');
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  await story.run('web', servers);
  const isTcp = ({ protocol }: LabRequest): boolean => protocol === 'tcp';
  clusterIPs = (await story.clusterIPs('web')).filter(isTcp);
  nodePorts = (await story.nodePorts('web', 'node-a')).filter(isTcp);
  await story.served('client', nodePorts, { servers });
  await story.served('pod9', clusterIPs, { servers });
});

afterAll(() => cluster.close());

/** Opens 100 connections from outside, from pods and from a node. */
async function openAll(): Promise<OpenConnections[]> {
  const plan = Object.entries(PER_SOURCE).flatMap(([from, count]) =>
    (from === 'client' || from === 'pod109' ? nodePorts : clusterIPs).map(({ address, port }) => ({ from, to: { address, port, count } })),
  );
  return Promise.all(plan.map(({ from, to }) => OpenConnections.start(cluster.lab, from, to)));
}

const askAll = async (connections: readonly OpenConnections[]): Promise<string[][]> => Promise.all(connections.map((each) => each.ask()));

/** Makes new connections until stop() is called, which resolves with the number of answers and with the failures. */
async function newConnections(): Promise<{ stop: () => Promise<{ answers: number; failures: Record<string, number> }> }> {
  let isStopped = false;
  const counted = { answers: 0, failures: {} as Record<string, number> };
  const work = async (client: Client, to: LabRequest): Promise<void> => {
    while (!isStopped) {
      const { answers, failures } = await client.ask({ ...to, count: 5, parallel: 1, timeoutMs: 5000 });
      for (const count of Object.values(answers)) counted.answers += count;
      for (const [failure, count] of Object.entries(failures)) counted.failures[`${step}: ${failure}`] = count;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
    await client.process.kill();
  };
  const plan = [...nodePorts.map((to) => ({ from: 'client', to })), ...clusterIPs.map((to) => ({ from: 'pod9', to }))];
  const clients = await Promise.all(plan.map(async ({ from, to }) => ({ to, client: await Client.start(cluster.lab, from) })));
  const works = clients.map(({ client, to }) => work(client, to));
  const stop = async (): Promise<typeof counted> => {
    isStopped = true;
    await Promise.all(works);
    return counted;
  };
  return { stop };
}

/** New connections from outside and from a pod are answered by all servers. */
async function expectServed(): Promise<void> {
  for (const [from, frontends] of [
    ['client', nodePorts],
    ['pod9', clusterIPs],
  ] as const)
    for (const frontend of frontends) {
      const { answers, failures } = await cluster.ask(from, frontend);
      expect({ failures, servers: Object.keys(answers).sort() }).toEqual({ failures: {}, servers });
    }
}

const statusOf = (node: (typeof nodes)[number]): ReturnType<typeof askStatus> =>
  askStatus({ socket: cluster.daemon(node).socket, timeoutMs: 5000 });

test('100 open connections survive the migration from kube-proxy, and the way back, and new ones succeed throughout', async () => {
  const viaKubeProxy = await openAll();
  const before = await askAll(viaKubeProxy);
  expect(before.flat()).toHaveLength(100);
  expect([...new Set(before.flat())].sort()).toEqual(servers);
  const traffic = await newConnections();

  step = 'starting Sluice';
  const sluices: LabProcess[] = [];
  for (const node of nodes) sluices.push(await cluster.startBeside(node, 'sluice'));
  expect(await askAll(viaKubeProxy)).toEqual(before);
  step = 'stopping kube-proxy';
  for (const node of nodes) await cluster.stopProxy(node);
  expect(await askAll(viaKubeProxy)).toEqual(before);
  expect((await statusOf('node-a')).phase).toBe('PHASE_MIGRATING');
  step = 'removing the rules of kube-proxy';
  for (const each of viaKubeProxy) await each.close();
  for (const node of nodes) {
    cluster.cleanUpKubeProxy(node);
    cluster.daemon(node).cli('migrate', '--done');
  }
  await expectServed();

  step = 'starting kube-proxy';
  const viaSluice = await openAll();
  const now = await askAll(viaSluice);
  expect([...new Set(now.flat())].sort()).toEqual(servers);
  for (const node of nodes) {
    await cluster.startBeside(node, 'kube-proxy');
    await until('kube-proxy has its rules', async () => hasRules(node));
  }
  // From now on nf_conntrack learns the open connections from their packets, so that netfilter gives their ports to no new connection.
  expect(await askAll(viaSluice)).toEqual(now);
  step = 'draining';
  for (const node of nodes) cluster.daemon(node).cli('drain');
  expect(await askAll(viaSluice)).toEqual(now);
  await expectServed();
  expect(await traffic.stop()).toEqual({ answers: expect.any(Number) as number, failures: {} });
  await until('only the open connections are counted', async () => (await statusOf('node-a')).openFlows?.tcp === String(MASQUERADED));

  // The programs are pinned, so the flows go on without the agents.
  for (const each of sluices) await each.kill();
  expect(await askAll(viaSluice)).toEqual(now);
  const uninstall = (): string => cluster.daemon('node-a').cli('uninstall', '--pin-path', `${cluster.lab.bpffs}/sluice`);
  expect(uninstall).toThrow(`${MASQUERADED} flows are open (TCP ${MASQUERADED}, UDP 0, SCTP 0)`);
  for (const each of viaSluice) await each.close();
  expect(uninstall()).toContain('removed map');
  await expectServed();
});

/** Whether kube-proxy has written its rules for both IP families. */
function hasRules(node: (typeof nodes)[number]): boolean {
  const port = String(nodePorts[0]?.port);
  const rules = ['ip', 'ip6'].map((family) =>
    cluster.lab.run(node === 'node-a' ? 'node' : node, 'nft', 'list', 'table', family, 'kube-proxy'),
  );
  return rules.every((text) => text.includes(port));
}
