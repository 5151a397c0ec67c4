// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of NodePorts, external addresses and changes of the type of a Service, under their upstream names.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { sourceOf, Story } from './story.ts';

let cluster: KubeCluster;
const everybody = ['pod9', 'pod109', 'node', 'node-b', 'client'];
const nodes = ['node-a', 'node-b'] as const;
const both = { servers: ['pod1', 'pod101'] };

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

test('should be able to create a functioning NodePort service', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  await story.run('web', ['pod1', 'pod101']);
  for (const from of everybody) {
    await story.served(from, await story.clusterIPs('web'), both);
    for (const node of nodes) await story.served(from, await story.nodePorts('web', node), both);
  }
});

test('should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node', async () => {
  const story = await Story.begin(cluster);
  const externalIPs = ['203.0.113.250', 'fd00:203::250'];
  await story.apply(story.service('web', { externalIPs }));
  await story.run('web', ['pod1', 'pod101']);
  for (const address of externalIPs) for (const from of everybody) await story.served(from, await story.portsAt('web', address), both);
});

test('should be able to update service type to NodePort listening on same port number but different protocols', async () => {
  const story = await Story.begin(cluster);
  const ports = [{ name: 'tcp', port: 80, targetPort: 8080, protocol: 'TCP' }];
  await story.apply(story.service('web', { ports }));
  expect((await story.live('web')).spec.ports.map(({ nodePort }) => nodePort)).toEqual([undefined]);
  const added = [
    { name: 'tcp', port: 80, targetPort: 8080, protocol: 'TCP', nodePort: 30_080 },
    { name: 'udp', port: 80, targetPort: 5353, protocol: 'UDP', nodePort: 30_080 },
  ];
  await story.patch('web', { spec: { type: 'NodePort', ports: added } });
  await story.run('web', ['pod1', 'pod101']);
  for (const from of everybody) await story.served(from, await story.nodePorts('web', 'node-a'), both);
});

const external = { type: 'ExternalName', externalName: 'example.com', selector: undefined, ipFamilyPolicy: undefined };

test.for(['ClusterIP', 'NodePort'])('should be able to change the type from ExternalName to %s', async (type) => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { ...external, ports: [] }));
  await story.run('web', ['pod1', 'pod101']);
  const { ports } = (story.service('web') as { spec: { ports: object[] } }).spec;
  await story.patch('web', { spec: { type, externalName: null, selector: { app: 'web' }, ipFamilyPolicy: 'PreferDualStack', ports } });
  for (const from of ['pod9', 'node-b']) {
    await story.served(from, await story.clusterIPs('web'), both);
    if (type === 'NodePort') await story.served(from, await story.nodePorts('web', 'node-a'), both);
  }
});

test.for(['ClusterIP', 'NodePort'])('should be able to change the type from %s to ExternalName', async (type) => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type }));
  await story.run('web', ['pod1', 'pod101']);
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, both);
  const nodePorts = type === 'NodePort' ? await story.nodePorts('web', 'node-a') : [];
  await story.served('pod9', nodePorts, both);
  const ports = (await story.live('web')).spec.ports.map((port) => ({ ...port, nodePort: undefined }));
  await story.patch('web', { spec: { ...external, clusterIP: null, clusterIPs: null, ipFamilies: null, selector: null, ports } });
  await story.silent('pod9', vips);
  // The node refuses the connection, because no process listens there.
  await story.refused('pod9', nodePorts);
});

const onPort = (nodePort: number): object => ({
  ...{ type: 'NodePort', ports: [{ name: 'web', port: 80, targetPort: 8080, nodePort }] },
});

test('should prevent NodePort collisions', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('first', onPort(30_081)));
  await expect(story.apply(story.service('second', onPort(30_081)))).rejects.toThrow('provided port is already allocated');
  await story.kubectl(['delete', 'service', 'first']);
  await story.apply(story.service('second', onPort(30_081)));
  await story.run('second', ['pod1', 'pod101']);
  await story.served('client', await story.nodePorts('second', 'node-b'), both);
});

test('should check NodePort out-of-range', async () => {
  const story = await Story.begin(cluster);
  await expect(story.apply(story.service('web', onPort(32_768)))).rejects.toThrow('provided port is not in the valid range');
  await story.apply(story.service('web', { type: 'NodePort' }));
  await expect(story.patch('web', { spec: onPort(29_999) })).rejects.toThrow('provided port is not in the valid range');
  await story.run('web', ['pod1', 'pod101']);
  await story.served('client', await story.nodePorts('web', 'node-a'), both);
});

test('should release NodePorts on delete', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', onPort(30_082)));
  await story.run('web', ['pod1', 'pod101']);
  const nodePorts = await story.nodePorts('web', 'node-a');
  await story.served('client', nodePorts, both);
  await story.kubectl(['delete', 'service', 'web']);
  await story.refused('client', nodePorts);
  await story.apply(story.service('again', { ...onPort(30_082), selector: { app: 'web' } }));
  await story.served('client', nodePorts, both);
});

test('should support externalTrafficPolicy=Local for type=NodePort', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort', externalTrafficPolicy: 'Local' }));
  await story.run('web', ['pod1']);
  const nodePorts = await story.nodePorts('web', 'node-a');
  for (const from of ['node-b', 'client']) await story.served(from, nodePorts, { servers: ['pod1'], source: sourceOf(from) });
});

test('should create Services and serve on different Service CIDRs', async () => {
  const story = await Story.begin(cluster);
  const path = '/apis/networking.k8s.io/v1/servicecidrs/another';
  await story.apply({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR', metadata: { name: 'another' } },
    spec: { cidrs: ['203.0.113.0/24', 'fd00:203::/112'] },
  });
  await until('the range is ready', async () => {
    const { conditions = [] } = (await cluster.api.existing(path)).status;
    return conditions.some(({ type, status }) => type === 'Ready' && status === 'True');
  });
  const clusterIPs = ['203.0.113.10', 'fd00:203::10'];
  await story.apply(story.service('web', { type: 'NodePort', clusterIP: clusterIPs[0], clusterIPs }));
  await story.run('web', ['pod1', 'pod101']);
  for (const from of everybody) {
    await story.served(from, await story.clusterIPs('web'), both);
    await story.served(from, await story.nodePorts('web', 'node-b'), both);
  }
  // Packets to unassigned addresses of the new range are dropped.
  const unowned = (await story.clusterIPs('web')).map((vip) => ({ ...vip, address: vip.address.replace(/10$/, '11') }));
  await story.silent('pod9', unowned);
});
