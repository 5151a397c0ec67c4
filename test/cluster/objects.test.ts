// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of API objects (lists, statuses, Endpoints, EndpointSlices, address families), under their upstream
// names. Packets show that the proxy has applied each change.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { whereIs } from './kubelet.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;
const both = { servers: ['pod1', 'pod101'] };

beforeAll(async () => {
  cluster = await KubeCluster.start();
  await cluster.serve('pod1', { name: 'pod1-other', tcp: 8081, udp: 5354 });
});

afterAll(() => cluster.close());

test('should find a service from listing all namespaces', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  const found = await cluster.api.kubectl(['get', 'services', '--all-namespaces', '-o', 'name']);
  expect(found.split('\n')).toEqual(expect.arrayContaining(['service/kubernetes', 'service/web']));
});

test('should complete a service status lifecycle', async () => {
  const story = await Story.begin(cluster);
  const [first, second] = ['203.0.113.21', '203.0.113.22'];
  await story.apply(story.service('web', { type: 'LoadBalancer' }));
  await story.run('web', ['pod1', 'pod101']);
  const setStatus = (status: object): Promise<string> =>
    story.kubectl(['patch', 'service', 'web', '--subresource=status', '--type=merge', '--patch', JSON.stringify({ status })]);
  await setStatus({ loadBalancer: { ingress: [{ ip: first }] } });
  for (const from of ['client', 'pod9']) await story.served(from, await story.portsAt('web', first), both);
  const conditions = [
    { type: 'StatusUpdate', status: 'True', reason: 'E2E', message: 'Set by a test', lastTransitionTime: '2026-01-01T00:00:00Z' },
  ];
  await setStatus({ loadBalancer: { ingress: [{ ip: second }] }, conditions });
  for (const from of ['client', 'pod9']) await story.served(from, await story.portsAt('web', second), both);
  await story.patch('web', { metadata: { labels: { patched: 'true' } } });
  expect((await story.live('web')).status.conditions).toEqual(conditions);
  await story.kubectl(['delete', 'service', 'web']);
  expect(await cluster.api.get(`/api/v1/namespaces/${story.namespace}/services/web`)).toBeUndefined();
});

test('should delete a collection of services', async () => {
  const story = await Story.begin(cluster);
  const services = ['one', 'two', 'three'].map((name) =>
    story.service(name, { selector: { app: 'web' } }, { labels: name === 'three' ? {} : { doomed: 'true' } }),
  );
  await story.apply(...services);
  await story.run('web', ['pod1', 'pod101']);
  const [one = [], two = [], three = []] = await Promise.all(['one', 'two', 'three'].map((name) => story.clusterIPs(name)));
  for (const vips of [one, two, three]) await story.served('pod9', vips, both);
  await cluster.api.delete(`/api/v1/namespaces/${story.namespace}/services?labelSelector=doomed%3Dtrue`);
  for (const vips of [one, two]) await story.silent('pod9', vips);
  await story.served('pod9', three, both);
});

test('should mirror a custom Endpoints resource through create update and delete', async () => {
  const story = await Story.begin(cluster);
  const endpoints = (...pods: string[]): object => ({
    ...{ apiVersion: 'v1', kind: 'Endpoints', metadata: { name: 'web', namespace: story.namespace } },
    subsets: [{ addresses: pods.map((pod) => ({ ip: whereIs(pod).addresses.IPv4 })), ports: [{ name: 'web', port: 8080 }] }],
  });
  const ports = [{ name: 'web', port: 80, targetPort: 8080 }];
  await story.apply(
    story.service('web', { selector: undefined, ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4'], ports }),
    endpoints('pod1'),
  );
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1'] });
  await story.apply(endpoints('pod2', 'pod101'));
  await story.served('pod9', vips, { servers: ['pod101', 'pod2'] });
  await story.kubectl(['delete', 'endpoints', 'web']);
  await story.refused('pod9', vips);
});

describe('EndpointSlice', () => {
  test('should create and delete EndpointSlices for a Service with a selector that matches no pods', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web'));
    const count = async (): Promise<number> => {
      const selector = 'labelSelector=kubernetes.io%2Fservice-name%3Dweb';
      const { items } = await cluster.api.existing(`/apis/discovery.k8s.io/v1/namespaces/${story.namespace}/endpointslices?${selector}`);
      return items.length;
    };
    await until('there is one EndpointSlice for each family', async () => (await count()) === 2);
    const vips = await story.clusterIPs('web');
    await story.refused('pod9', vips);
    await story.kubectl(['delete', 'service', 'web']);
    await until('the EndpointSlices are deleted with the Service', async () => (await count()) === 0);
    await story.silent('pod9', vips);
  });

  test('should support a Service with multiple ports specified in multiple EndpointSlices', async () => {
    const story = await Story.begin(cluster);
    const slices = (): object[] => [
      ...story.slices('web', { name: 'one', places: ['pod1'] }),
      ...story.slices('web', { name: 'two', places: ['pod1', 'pod101'], web: 8081 }),
    ];
    const ports = [{ name: 'web', port: 80, targetPort: 8080 }];
    await story.apply(story.service('web', { selector: undefined, ports }), ...slices().slice(0, 2));
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1'] });
    await cluster.serve('pod101', { name: 'pod101-other', tcp: 8081, udp: 5354 });
    await story.apply(...slices());
    await story.served('pod9', vips, { servers: ['pod1', 'pod1-other', 'pod101-other'] });
    await story.kubectl(['delete', 'endpointslices', 'one-ipv4', 'one-ipv6']);
    await story.served('pod9', vips, { servers: ['pod1-other', 'pod101-other'] });
  });

  test('should support a Service with multiple endpoint IPs specified in multiple EndpointSlices', async () => {
    const story = await Story.begin(cluster);
    const slices = [
      ...story.slices('web', { name: 'one', places: ['pod1', 'pod2'] }),
      ...story.slices('web', { name: 'two', places: ['pod2', 'pod101'] }),
    ];
    await story.apply(story.service('web', { selector: undefined }), ...slices);
    const vips = await story.clusterIPs('web');
    await story.served('pod9', vips, { servers: ['pod1', 'pod101', 'pod2'] });
    await story.kubectl(['delete', 'endpointslices', 'one-ipv4', 'one-ipv6']);
    await story.served('pod9', vips, { servers: ['pod101', 'pod2'] });
  });
});

describe('dual stack', () => {
  const cases = [
    { families: ['IPv4'], title: 'should create service with ipv4 cluster ip' },
    { families: ['IPv6'], title: 'should create service with ipv6 cluster ip' },
    { families: ['IPv4', 'IPv6'], title: 'should create service with ipv4,v6 cluster ip' },
    { families: ['IPv6', 'IPv4'], title: 'should create service with ipv6,v4 cluster ip' },
  ];
  const familyOf = (address: string): string => (address.includes(':') ? 'IPv6' : 'IPv4');

  for (const { families, title } of cases) {
    test(title, async () => {
      const story = await Story.begin(cluster);
      const ipFamilyPolicy = families.length === 2 ? 'RequireDualStack' : 'SingleStack';
      await story.apply(story.service('web', { ipFamilyPolicy, ipFamilies: families, type: 'NodePort' }));
      await story.run('web', ['pod1', 'pod101']);
      const { clusterIPs } = (await story.live('web')).spec;
      expect(clusterIPs.map(familyOf)).toEqual(families);
      await story.served('pod9', await story.clusterIPs('web'), both);
      const nodePorts = Map.groupBy(await story.nodePorts('web', 'node-a'), ({ address }) => families.includes(familyOf(address)));
      await story.served('client', nodePorts.get(true) ?? [], both);
      // In the other family the node refuses the connection, because no process listens.
      await story.refused('client', nodePorts.get(false) ?? []);
    });
  }

  test('an address family is added to a Service and removed again', async () => {
    const story = await Story.begin(cluster);
    await story.apply(story.service('web', { ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4'] }));
    await story.run('web', ['pod1', 'pod101']);
    await story.served('pod9', await story.clusterIPs('web'), both);
    await story.patch('web', { spec: { ipFamilyPolicy: 'RequireDualStack' } });
    const vips = await story.clusterIPs('web');
    expect(vips).toHaveLength(4);
    await story.served('pod9', vips, both);
    await story.patch('web', { spec: { ipFamilyPolicy: 'SingleStack' } });
    await story.silent(
      'pod9',
      vips.filter(({ address }) => address.includes(':')),
    );
    await story.served('pod9', await story.clusterIPs('web'), both);
  });
});
