// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests "Granular Checks: Services", under their upstream names. Pods, nodes and the endpoints
// themselves send requests, also large ones, to ClusterIPs and NodePorts, and endpoints and ports are added and removed.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;
const nodes = ['node-a', 'node-b'] as const;
const servers = ['pod1', 'pod2', 'pod101'];
const kinds = [
  { kind: 'http', protocol: 'tcp' },
  { kind: 'udp', protocol: 'udp' },
] as const;

beforeAll(async () => {
  cluster = await KubeCluster.start();
  for (const node of ['node', 'node-b']) await cluster.serve(node);
});

afterAll(() => cluster.close());

/** A NodePort Service of three Pods, and its frontends of one protocol. */
async function begin(protocol: string, spec: object = {}) {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort', ...spec }));
  await story.run('web', servers);
  const of = <T extends { protocol: string }>(frontends: readonly T[]): T[] => frontends.filter((each) => each.protocol === protocol);
  const clusterIPs = of(await story.clusterIPs('web'));
  const nodePorts = of((await Promise.all(nodes.map((node) => story.nodePorts('web', node)))).flat());
  return { story, clusterIPs, nodePorts, all: [...clusterIPs, ...nodePorts] };
}

describe.each(kinds)('$kind', ({ kind, protocol }) => {
  test(`should function for pod-Service: ${kind}`, async () => {
    const { story, all } = await begin(protocol);
    for (const from of ['pod9', 'pod109']) await story.served(from, all, { servers });
  });

  test(`should function for node-Service: ${kind}`, async () => {
    const { story, all } = await begin(protocol);
    for (const from of ['node', 'node-b', 'client']) await story.served(from, all, { servers });
  });

  test(`should function for endpoint-Service: ${kind}`, async () => {
    const { story, all } = await begin(protocol);
    for (const from of ['pod1', 'pod101']) await story.served(from, all, { servers });
  });

  test(`should update endpoints: ${kind}`, async () => {
    const { story, all } = await begin(protocol);
    await story.served('pod9', all, { servers });
    await cluster.kubelet.end(story.namespace, 'pod1');
    await story.served('pod9', all, { servers: ['pod2', 'pod101'] });
  });

  test(`should update nodePort: ${kind}`, async () => {
    const { story, clusterIPs, nodePorts } = await begin(protocol);
    await story.served('pod9', nodePorts, { servers });
    await story.patch('web', { spec: { type: 'ClusterIP' } });
    await story.refused('client', nodePorts);
    await story.served('pod9', clusterIPs, { servers });
  });

  test(`should function for client IP based session affinity: ${kind} [LinuxOnly]`, async () => {
    const { clusterIPs } = await begin(protocol, { sessionAffinity: 'ClientIP' });
    for (const frontend of clusterIPs) {
      await until('a server answers', async () => Object.keys((await cluster.ask('pod9', { ...frontend, count: 1 })).answers).length === 1);
      const { answers, failures } = await cluster.ask('pod9', { ...frontend, count: 40 });
      expect({ failures, servers: Object.keys(answers).length }).toEqual({ failures: {}, servers: 1 });
    }
  });

  test(`should be able to handle large requests: ${kind}`, async () => {
    const { story, all } = await begin(protocol);
    // TCP requests are larger than a packet; a UDP request fits in one.
    const size = protocol === 'tcp' ? 100_000 : 1400;
    for (const from of ['pod9', 'client']) {
      await story.served(from, all, { servers });
      for (const frontend of all) expect((await cluster.ask(from, { ...frontend, size, count: 10 })).failures).toEqual({});
    }
  });
});

test('should function for multiple endpoint-Services with same selector', async () => {
  const story = await Story.begin(cluster);
  const names = ['first', 'second'];
  await story.apply(...names.map((name) => story.service(name, { type: 'NodePort', selector: { app: 'web' } })));
  await story.run('web', servers);
  for (const from of ['pod1', 'pod9']) {
    for (const name of names) {
      await story.served(from, await story.clusterIPs(name), { servers });
      await story.served(from, await story.nodePorts(name, 'node-a'), { servers });
    }
  }
  const vips = await story.clusterIPs('second');
  await story.kubectl(['delete', 'service', 'second']);
  await story.silent('pod9', vips);
  await story.served('pod1', await story.clusterIPs('first'), { servers });
});

test('should function for service endpoints using hostNetwork', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  await story.run('web', ['node', 'node-b']);
  const frontends = [...(await story.clusterIPs('web')), ...(await story.nodePorts('web', 'node-a'))];
  for (const from of ['pod9', 'pod109', 'node', 'client']) await story.served(from, frontends, { servers: ['node', 'node-b'] });
});
