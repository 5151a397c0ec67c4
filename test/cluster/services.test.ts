// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of Services and their Pods, under their upstream names (test/README.md, 17).
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { sourceOf, Story } from './story.ts';
import { tools } from './tools.ts';

let cluster: KubeCluster;
const insiders = ['pod9', 'pod109', 'node', 'node-b'];
const everybody = [...insiders, 'client'];

beforeAll(async () => {
  cluster = await KubeCluster.start();
  // A second server in pod1, in addition to ports 8080 and 5353.
  await cluster.serve('pod1', { name: 'pod1-other', tcp: 8081, udp: 5354 });
});

afterAll(() => cluster.close());

test.for(['pod9', 'pod109', 'node'])('should provide secure master service, from %s', async (from) => {
  const file = cluster.plane.kubeconfig('admin', 'https://10.96.0.1:443');
  const asking = cluster.lab.start(from, [tools.kubectl, '--kubeconfig', file, 'get', '--raw', '/livez'], { inCgroup: true });
  expect({ code: await asking.ended, lines: asking.lines }).toEqual({ code: 0, lines: ['ok'] });
});

test('should serve a basic endpoint from pods', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  const vips = await story.clusterIPs('web');
  await story.refused('pod9', vips);
  await story.run('web', ['pod1']);
  for (const from of everybody) await story.served(from, vips, { servers: ['pod1'] });
  await story.run('web', ['pod101']);
  for (const from of everybody) await story.served(from, vips, { servers: ['pod1', 'pod101'] });
  await cluster.kubelet.end(story.namespace, 'pod1');
  await story.served('pod9', vips, { servers: ['pod101'] });
  await cluster.kubelet.end(story.namespace, 'pod101');
  for (const from of ['pod9', 'node', 'client']) await story.refused(from, vips);
});

test('should serve multiport endpoints from pods', async () => {
  const story = await Story.begin(cluster);
  const ports = [
    { name: 'one', port: 80, targetPort: 'first' },
    { name: 'two', port: 81, targetPort: 'second' },
  ];
  await story.apply(story.service('web', { ports }));
  const vips = await story.clusterIPs('web');
  const at = (number: number): typeof vips => vips.filter(({ port }) => port === number);
  const has = (name: string): object => ({ containers: [{ name: 'server', image: 'none', ports: [{ name, containerPort: 8080 }] }] });
  await story.run('web', ['pod1'], has('first'));
  await story.served('pod9', at(80), { servers: ['pod1'] });
  await story.refused('pod9', at(81));
  await story.run('web', ['pod2'], has('second'));
  await story.served('pod9', at(80), { servers: ['pod1'] });
  await story.served('pod9', at(81), { servers: ['pod2'] });
  await cluster.kubelet.end(story.namespace, 'pod1');
  await story.refused('pod9', at(80));
  await story.served('pod9', at(81), { servers: ['pod2'] });
});

test('should be updated after adding or deleting ports', async () => {
  const story = await Story.begin(cluster);
  const one = { name: 'one', port: 80, targetPort: 8080, protocol: 'TCP' };
  const two = { name: 'two', port: 81, targetPort: 8081, protocol: 'TCP' };
  await story.apply(story.service('web', { ports: [one] }));
  await story.run('web', ['pod1']);
  const first = await story.clusterIPs('web');
  await story.served('pod9', first, { servers: ['pod1'] });
  const second = first.map((vip) => ({ ...vip, port: 81 }));
  await story.refused('pod9', second);
  await story.patch('web', { spec: { ports: [one, two] } });
  await story.served('pod9', second, { servers: ['pod1-other'] });
  await story.served('pod9', first, { servers: ['pod1'] });
  await story.patch('web', { spec: { ports: [two] } });
  await story.refused('pod9', first);
  await story.served('pod9', second, { servers: ['pod1-other'] });
});

test('should preserve source pod IP for traffic thru service cluster IP [LinuxOnly]', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  await story.run('web', ['pod1', 'pod101']);
  const vips = await story.clusterIPs('web');
  for (const from of ['pod9', 'pod109']) await story.served(from, vips, { servers: ['pod1', 'pod101'], source: sourceOf(from) });
});

test('should allow pods to hairpin back to themselves through services', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  await story.run('web', ['pod1']);
  await story.served('pod1', await story.clusterIPs('web'), { servers: ['pod1'] });
});

test('should be able to up and down services', async () => {
  const story = await Story.begin(cluster);
  const names = ['up-down-1', 'up-down-2'];
  await story.apply(...names.map((name) => story.service(name)));
  await story.run('up-down-1', ['pod1', 'pod101']);
  await story.run('up-down-2', ['pod2']);
  const [first = [], second = []] = await Promise.all(names.map((name) => story.clusterIPs(name)));
  await story.served('pod9', first, { servers: ['pod1', 'pod101'] });
  await story.served('pod9', second, { servers: ['pod2'] });
  await story.kubectl(['delete', 'service', 'up-down-1']);
  await story.silent('pod9', first);
  await story.served('pod9', second, { servers: ['pod2'] });
  await story.apply(story.service('up-down-3', { selector: { app: 'up-down-1' } }));
  await story.served('pod9', second, { servers: ['pod2'] });
  await story.served('pod9', await story.clusterIPs('up-down-3'), { servers: ['pod1', 'pod101'] });
});

test('should work after the service has been recreated', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  await story.run('web', ['pod1', 'pod101']);
  const vips = await story.clusterIPs('web');
  const { clusterIP, clusterIPs } = (await story.live('web')).spec;
  await story.served('pod9', vips, { servers: ['pod1', 'pod101'] });
  await story.kubectl(['delete', 'service', 'web']);
  await story.silent('pod9', vips);
  await story.apply(story.service('web', { clusterIP, clusterIPs }));
  for (const from of everybody) await story.served(from, vips, { servers: ['pod1', 'pod101'] });
});

test('should serve endpoints on same port and different protocols', async () => {
  const story = await Story.begin(cluster);
  const [tcp, udp] = (['TCP', 'UDP'] as const).map((protocol) => ({
    ...{ name: protocol.toLowerCase(), protocol, port: 80, targetPort: protocol === 'TCP' ? 8080 : 5353 },
  }));
  await story.apply(story.service('web', { ports: [tcp, udp] }));
  await story.run('web', ['pod1']);
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1'] });
  await story.patch('web', { spec: { ports: [udp] } });
  await story.refused(
    'pod9',
    vips.filter(({ protocol }) => protocol === 'tcp'),
  );
  await story.served(
    'pod9',
    vips.filter(({ protocol }) => protocol === 'udp'),
    { servers: ['pod1'] },
  );
});

test('should allow creating a basic SCTP service with pod and endpoints [LinuxOnly]', async () => {
  const modules = (): boolean => existsSync('/proc/modules') && /^sctp /m.test(readFileSync('/proc/modules', 'utf8'));
  const isLoaded = modules();
  const story = await Story.begin(cluster);
  const ports = [{ name: 'sctp', protocol: 'SCTP', port: 5060, targetPort: 5060 }];
  await story.apply(story.service('sctp', { ports }));
  await story.run('sctp', ['pod1'], {
    containers: [{ name: 'server', image: 'none', ports: [{ containerPort: 5060, protocol: 'SCTP' }] }],
  });
  const slices = `/apis/discovery.k8s.io/v1/namespaces/${story.namespace}/endpointslices`;
  await until('each EndpointSlice has one endpoint', async () => {
    const { items } = await cluster.api.existing(slices);
    expect(items.map(({ endpoints }) => endpoints.length)).toEqual([1, 1]);
    return true;
  });
  // The proxies must ignore the SCTP Service. They have processed it when a Service that was created later is served.
  await story.apply(story.service('web'));
  await story.run('web', ['pod2']);
  await story.served('pod9', await story.clusterIPs('web'), { servers: ['pod2'] });
  expect(modules()).toBe(isLoaded);
});

/** Tests a Pod whose only port is that of a restartable init container. */
async function expectSidecarServed(targetPort: number | string): Promise<void> {
  const story = await Story.begin(cluster);
  const sidecar = { name: 'sidecar', image: 'none', restartPolicy: 'Always', ports: [{ name: 'http-sidecar', containerPort: 8081 }] };
  await story.apply(story.service('web', { ports: [{ port: 8080, targetPort }] }));
  await story.run('web', ['pod1'], { initContainers: [sidecar], containers: [{ name: 'main', image: 'none' }] });
  await story.served('pod9', await story.clusterIPs('web'), { servers: ['pod1-other'] });
}

test('should connect to the ports exposed by restartable init containers', () => expectSidecarServed(8081));
test('should connect to the named ports exposed by restartable init containers', () => expectSidecarServed('http-sidecar'));

test('should support named targetPorts that resolve to different ports on different endpoints', async () => {
  const story = await Story.begin(cluster);
  const at = (containerPort: number): object => ({
    containers: [{ name: 'server', image: 'none', ports: [{ name: 'mutable', containerPort }] }],
  });
  await story.apply(story.service('web', { ports: [{ name: 'web', port: 8001, targetPort: 'mutable' }] }));
  await story.run('web', ['pod1', 'pod2'], at(8080));
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1', 'pod2'] });
  await cluster.kubelet.end(story.namespace, 'pod1');
  await story.run('web', ['pod1'], { ...at(8081), name: 'pod1-again' });
  await story.served('pod9', vips, { servers: ['pod1-other', 'pod2'] });
  await cluster.kubelet.end(story.namespace, 'pod2');
  await story.served('pod9', vips, { servers: ['pod1-other'] });
});
