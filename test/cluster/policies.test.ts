// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of traffic policies, traffic distribution, and Services that the proxy must ignore, under their
// upstream names. Each node is in its own zone.
import { afterAll, beforeAll, describe, test } from 'vitest';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;

beforeAll(async () => {
  cluster = await KubeCluster.start();
  for (const node of ['node', 'node-b']) await cluster.serve(node);
});

afterAll(() => cluster.close());

describe('internalTrafficPolicy=Local', () => {
  const local = { internalTrafficPolicy: 'Local' };

  test('should respect internalTrafficPolicy=Local Pod to Pod', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', local));
    await story.run('web', ['pod1']);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1'] });
    await story.silent('pod109', vips);
    await story.run('web', ['pod101']);
    await story.served('pod109', vips, { servers: ['pod101'] });
    await story.served('pod9', vips, { servers: ['pod1'] });
  });

  test('should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', local));
    await story.run('web', ['pod1']);
    const vips = await story.clusterIPs('web');
    await story.served('node', vips, { servers: ['pod1'] });
    await story.silent('node-b', vips);
  });

  test('should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', local));
    await story.run('web', ['node']);
    const vips = await story.clusterIPs('web');
    for (const from of ['pod9', 'node']) await story.served(from, vips, { servers: ['node'] });
    for (const from of ['pod109', 'node-b']) await story.silent(from, vips);
  });
});

test('should implement service.kubernetes.io/service-proxy-name', async () => {
  const label = 'service.kubernetes.io/service-proxy-name';
  const story = await Story.begin(cluster);
  const [disabled, toggled] = ['disabled', 'toggled'];
  await story.apply(story.service(disabled, {}, { labels: { [label]: 'foo-bar' } }), story.service(toggled));
  await story.run(disabled, ['pod1']);
  await story.run(toggled, ['pod101', 'pod2']);
  const vips = { disabled: await story.clusterIPs(disabled), toggled: await story.clusterIPs(toggled) };
  await story.served('pod9', vips.toggled, { servers: ['pod101', 'pod2'] });
  await story.silent('pod9', vips.disabled);
  await story.kubectl(['label', 'service', toggled, `${label}=foo-bar`]);
  await story.silent('pod9', vips.toggled);
  await story.kubectl(['label', 'service', toggled, `${label}-`]);
  await story.served('pod9', vips.toggled, { servers: ['pod101', 'pod2'] });
  await story.silent('pod9', vips.disabled);
});

test('should implement service.kubernetes.io/headless', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { selector: undefined }), ...story.slices('web', { name: 'own', places: ['pod1', 'pod101'] }));
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1', 'pod101'] });
  await story.kubectl(['label', 'endpointslices', '--all', 'service.kubernetes.io/headless=']);
  for (const from of ['pod9', 'node']) await story.refused(from, vips);
});

describe('traffic distribution', () => {
  test.for(['PreferClose', 'PreferSameZone'])(
    'should route traffic to an endpoint in the same zone when using %s',
    async (trafficDistribution) => {
      const story = await Story.begin(cluster);
      await story.apply(story.service('web', { trafficDistribution }));
      await story.run('web', ['pod1', 'pod2', 'pod101']);
      const vips = await story.clusterIPs('web');
      for (const from of ['pod9', 'node']) await story.served(from, vips, { servers: ['pod1', 'pod2'] });
      for (const from of ['pod109', 'node-b']) await story.served(from, vips, { servers: ['pod101'] });
    },
  );

  test.for(['PreferClose', 'PreferSameZone'])(
    'should route traffic correctly between pods on multiple nodes when using %s',
    async (trafficDistribution) => {
      const story = await Story.begin(cluster);
      await story.apply(story.service('web', { trafficDistribution }));
      await story.run('web', ['pod1', 'pod2']);
      const vips = await story.clusterIPs('web');
      for (const from of ['pod9', 'pod109', 'node-b']) await story.served(from, vips, { servers: ['pod1', 'pod2'] });
      await story.kubectl(['patch', 'service', 'web', '--type=merge', '--patch', '{"spec":{"trafficDistribution":null}}']);
      await story.run('web', ['pod101']);
      for (const from of ['pod9', 'pod109']) await story.served(from, vips, { servers: ['pod1', 'pod101', 'pod2'] });
    },
  );

  const sameNode = { trafficDistribution: 'PreferSameNode' };

  test('should route traffic to an endpoint on the same node or fall back to same zone when using PreferSameNode', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', sameNode));
    await story.run('web', ['pod1', 'pod101']);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1'] });
    await story.served('pod109', vips, { servers: ['pod101'] });
  });

  test('should route traffic to an endpoint on the same node when using PreferSameNode and fall back when the endpoint becomes unavailable', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', sameNode));
    await story.run('web', ['pod1', 'pod101']);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1'] });
    await cluster.kubelet.setReady(story.namespace, 'pod1', false);
    await story.served('pod9', vips, { servers: ['pod101'] });
    await cluster.kubelet.setReady(story.namespace, 'pod1', true);
    await story.served('pod9', vips, { servers: ['pod1'] });
  });
});
