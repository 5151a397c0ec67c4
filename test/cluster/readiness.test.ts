// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of Pods that are not ready, terminate, or are deleted, under their upstream names. The test acts as
// the kubelet.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { labNodes, type NodeName } from '../support/lab/lab.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { sourceOf, Story } from './story.ts';

let cluster: KubeCluster;

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

const ending = (story: Story, pod: string, isReady: boolean): Promise<void> => cluster.kubelet.terminate(story.namespace, pod, { isReady });

test('should create endpoints for unready pods', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { publishNotReadyAddresses: true }));
  await story.run('web', ['pod1'], { isReady: false });
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1'] });
  await ending(story, 'pod1', false);
  await story.served('pod9', vips, { servers: ['pod1'] });
  await story.patch('web', { spec: { publishNotReadyAddresses: false } });
  await story.refused('pod9', vips);
  await story.patch('web', { spec: { publishNotReadyAddresses: true } });
  await story.served('pod9', vips, { servers: ['pod1'] });
});

test('should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort', publishNotReadyAddresses: true }));
  await story.run('web', ['pod1']);
  await story.served('pod109', await story.clusterIPs('web'), { servers: ['pod1'] });
  await ending(story, 'pod1', false);
  await story.served('pod109', await story.clusterIPs('web'), { servers: ['pod1'] });
  for (const node of ['node-a', 'node-b'] as const) await story.served('pod109', await story.nodePorts('web', node), { servers: ['pod1'] });
});

test('should not be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is false', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  await story.run('web', ['pod1']);
  await story.served('pod109', await story.clusterIPs('web'), { servers: ['pod1'] });
  await ending(story, 'pod1', false);
  await story.refused('pod109', await story.clusterIPs('web'));
  for (const node of ['node-a', 'node-b'] as const) await story.refused('pod109', await story.nodePorts('web', node));
});

test('should be rejected when no endpoints exist', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  for (const from of ['pod9', 'node', 'client']) await story.refused(from, await story.clusterIPs('web'));
  for (const from of ['pod9', 'client']) await story.refused(from, await story.nodePorts('web', 'node-b'));
});

test('should be rejected for evicted pods (no endpoints exist)', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { publishNotReadyAddresses: true }));
  await story.run('web', ['pod1']);
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1'] });
  await cluster.kubelet.evict(story.namespace, 'pod1');
  await story.refused('pod9', vips);
});

/** The HTTP status of a node's health check port; undefined if no process listens. */
async function health(from: string, at: NodeName, port: number): Promise<number | undefined> {
  const url = `http://${labNodes[at].addresses.IPv4}:${port}/healthz`;
  const ask = `fetch('${url}').then(({ status }) => console.log(status), () => console.log('refused'))`;
  const asking = cluster.lab.start(from, [process.execPath, '-e', ask]);
  const said = await asking.line(() => true);
  await asking.ended;
  return said === 'refused' ? undefined : Number(said);
}

const healthComes = (at: NodeName, port: number, want: number | undefined): Promise<boolean> =>
  until(`the health check port of ${at} returns ${want ?? 'nothing'}`, async () => {
    expect(await health('client', at, port)).toBe(want);
    return true;
  });

test('should fail health check node port if there are only terminating endpoints', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }));
  await story.run('web', ['pod1']);
  const { healthCheckNodePort } = (await story.live('web')).spec;
  await healthComes('node-a', healthCheckNodePort, 200);
  await ending(story, 'pod1', true);
  await healthComes('node-a', healthCheckNodePort, 503);
  for (const from of ['pod9', 'client']) await story.served(from, await story.nodePorts('web', 'node-a'), { servers: ['pod1'] });
});

test('should implement NodePort and HealthCheckNodePort correctly when ExternalTrafficPolicy changes', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }));
  await story.run('web', ['pod1']);
  const { healthCheckNodePort } = (await story.live('web')).spec;
  const [atA, atB] = [await story.nodePorts('web', 'node-a'), await story.nodePorts('web', 'node-b')];
  const expectLocal = async (): Promise<void> => {
    await healthComes('node-a', healthCheckNodePort, 200);
    await healthComes('node-b', healthCheckNodePort, 503);
    for (const from of ['client', 'node-b']) await story.served(from, atA, { servers: ['pod1'], source: sourceOf(from) });
    // The policy does not apply to clients on the node.
    await story.served('node-b', atB, { servers: ['pod1'] });
    await story.silent('client', atB);
  };
  await expectLocal();
  await story.patch('web', { spec: { externalTrafficPolicy: 'Cluster' } });
  for (const node of ['node-a', 'node-b'] as const) await healthComes(node, healthCheckNodePort, undefined);
  for (const from of ['client', 'node-b']) await story.served(from, [...atA, ...atB], { servers: ['pod1'] });
  await story.patch('web', { spec: { externalTrafficPolicy: 'Local', healthCheckNodePort } });
  await expectLocal();
});

describe('terminating endpoints', () => {
  test('should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web'));
    await story.run('web', ['pod1', 'pod101']);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1', 'pod101'] });
    await ending(story, 'pod1', true);
    for (const from of ['pod9', 'pod109', 'node']) await story.served(from, vips, { servers: ['pod101'] });
    await ending(story, 'pod101', true);
    for (const from of ['pod9', 'pod109', 'node', 'client']) await story.served(from, vips, { servers: ['pod1', 'pod101'] });
    await cluster.kubelet.setReady(story.namespace, 'pod1', false);
    await story.served('pod9', vips, { servers: ['pod101'] });
  });

  test('should fallback to local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', { internalTrafficPolicy: 'Local' }));
    await story.run('web', ['pod1', 'pod2', 'pod101']);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1', 'pod2'] });
    await ending(story, 'pod1', true);
    await story.served('pod9', vips, { servers: ['pod2'] });
    await ending(story, 'pod2', true);
    await story.served('pod9', vips, { servers: ['pod1', 'pod2'] });
    for (const pod of ['pod1', 'pod2']) await cluster.kubelet.end(story.namespace, pod);
    await story.silent('pod9', vips);
    await story.served('pod109', vips, { servers: ['pod101'] });
  });

  test('should fallback to terminating endpoints when there are no ready endpoints with externallTrafficPolicy=Cluster', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', { type: 'NodePort' }));
    await story.run('web', ['pod1', 'pod101']);
    const nodePorts = [...(await story.nodePorts('web', 'node-a')), ...(await story.nodePorts('web', 'node-b'))];
    await ending(story, 'pod1', true);
    await story.served('client', nodePorts, { servers: ['pod101'] });
    await ending(story, 'pod101', true);
    for (const from of ['client', 'pod9']) await story.served(from, nodePorts, { servers: ['pod1', 'pod101'] });
  });

  test('should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', { type: 'NodePort', externalTrafficPolicy: 'Local' }));
    await story.run('web', ['pod1', 'pod2', 'pod101']);
    const nodePorts = await story.nodePorts('web', 'node-a');
    await ending(story, 'pod1', true);
    await story.served('client', nodePorts, { servers: ['pod2'], source: sourceOf('client') });
    await ending(story, 'pod2', true);
    await story.served('client', nodePorts, { servers: ['pod1', 'pod2'], source: sourceOf('client') });
    await story.served('client', await story.nodePorts('web', 'node-b'), { servers: ['pod101'] });
    for (const pod of ['pod1', 'pod2']) await cluster.kubelet.end(story.namespace, pod);
    await story.silent('client', nodePorts);
  });
});
