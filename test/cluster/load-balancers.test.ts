// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of load balancers, under their upstream names. The test acts as the cloud provider: it writes the
// address into the status of the Service, and the router of the lab routes it to the first node.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientAddresses } from '../support/lab/lab.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { sourceOf, Story } from './story.ts';

let cluster: KubeCluster;
const both = { servers: ['pod1', 'pod101'] };
const outside = ['client', 'pod9', 'node'];
let given = 100;

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

const setIngress = async (story: Story, service: string, ips: readonly string[]): Promise<void> => {
  const status = { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } };
  await story.kubectl(['patch', 'service', service, '--subresource=status', '--type=merge', '--patch', JSON.stringify({ status })]);
};

/** Gives a Service a load balancer address of each family. Returns its ports at these addresses. */
async function balance(story: Story, service: string): Promise<LabRequest[]> {
  given += 1;
  const ips = [`203.0.113.${given}`, `fd00:203::${given}`];
  await setIngress(story, service, ips);
  return (await Promise.all(ips.map((ip) => story.portsAt(service, ip)))).flat();
}

async function begin(spec: object = {}): Promise<{ story: Story; frontends: LabRequest[] }> {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'LoadBalancer', ...spec }));
  await story.run('web', ['pod1', 'pod101']);
  return { story, frontends: await balance(story, 'web') };
}

for (const protocol of ['TCP', 'UDP'] as const) {
  test(`should be able to change the type and ports of a ${protocol} service`, async () => {
    const story = await Story.begin(cluster);
    const port = (number: number, nodePort?: number): object => ({
      ...{ name: 'web', port: number, targetPort: protocol === 'TCP' ? 8080 : 5353, protocol },
      ...(nodePort === undefined ? {} : { nodePort }),
    });
    const first = protocol === 'TCP' ? 30_100 : 30_200;
    await story.apply(story.service('web', { ports: [port(80)] }));
    await story.run('web', ['pod1', 'pod101']);
    await story.served('pod9', await story.clusterIPs('web'), both);
    await story.patch('web', { spec: { type: 'NodePort', ports: [port(80, first)] } });
    const nodePorts = await story.nodePorts('web', 'node-a');
    await story.served('client', nodePorts, both);
    await story.patch('web', { spec: { type: 'LoadBalancer' } });
    const frontends = await balance(story, 'web');
    await story.served('client', [...frontends, ...nodePorts], both);
    await story.patch('web', { spec: { ports: [port(80, first + 1)] } });
    const changed = await story.nodePorts('web', 'node-a');
    await story.served('client', [...frontends, ...changed], both);
    await story.refused('client', nodePorts);
    await story.patch('web', { spec: { ports: [port(81, first + 1)] } });
    const moved = frontends.map((frontend) => ({ ...frontend, port: 81 }));
    await story.served('client', [...moved, ...changed], both);
    // The old port is no longer served. What happens to its packets behind the router does not matter.
    await until(
      'the old port is gone',
      async () => (await cluster.ask('client', { ...frontends[0], count: 2, timeoutMs: 300 } as LabRequest)).answers['pod1'] === undefined,
    );
    await story.patch('web', { spec: { type: 'ClusterIP', ports: [port(81)] } });
    await story.refused('client', changed);
    await story.served('pod9', await story.clusterIPs('web'), both);
  });
}

test('should only allow access from service loadbalancer source ranges', async () => {
  const { story, frontends } = await begin();
  const allow = (...ranges: string[]): Promise<void> => story.patch('web', { spec: { loadBalancerSourceRanges: ranges } });
  for (const from of outside) await story.served(from, frontends, both);
  await allow(`${clientAddresses.IPv4}/32`, `${clientAddresses.IPv6}/128`);
  for (const from of ['pod9', 'node']) await story.silent(from, frontends);
  await story.served('client', frontends, both);
  await allow('10.244.1.9/32', 'fd00:244:1::9/128');
  await story.silent('client', frontends);
  await story.served('pod9', frontends, both);
  await allow();
  for (const from of outside) await story.served(from, frontends, both);
});

describe.each(['Local', 'Cluster'])('%s', (externalTrafficPolicy) => {
  const servers = externalTrafficPolicy === 'Local' ? ['pod1', 'pod2'] : ['pod1', 'pod101', 'pod2'];

  async function who(frontend: LabRequest): Promise<string[]> {
    const { answers, failures } = await cluster.ask('client', { ...frontend, count: 40 });
    expect(failures).toEqual({});
    return Object.keys(answers).sort();
  }

  test(`should have session affinity work for LoadBalancer service with ${externalTrafficPolicy} traffic policy`, async () => {
    const { story, frontends } = await begin({ externalTrafficPolicy, sessionAffinity: 'ClientIP' });
    await story.run('web', ['pod2']);
    for (const frontend of frontends) {
      await until('a server answers', async () => (await who(frontend)).length === 1);
      expect(await who(frontend)).toHaveLength(1);
    }
  });

  test(`should be able to switch session affinity for LoadBalancer service with ${externalTrafficPolicy} traffic policy`, async () => {
    const { story, frontends } = await begin({ externalTrafficPolicy });
    await story.run('web', ['pod2']);
    await story.served('client', frontends, { servers });
    await story.patch('web', { spec: { sessionAffinity: 'ClientIP' } });
    for (const frontend of frontends) await until('only one server answers', async () => (await who(frontend)).length === 1);
    await story.patch('web', { spec: { sessionAffinity: 'None', sessionAffinityConfig: null } });
    await story.served('client', frontends, { servers });
  });
});

test('should be able to create LoadBalancer Service without NodePort and change it', async () => {
  const { story, frontends } = await begin({ allocateLoadBalancerNodePorts: false });
  expect((await story.live('web')).spec.ports.map(({ nodePort }) => nodePort)).toEqual([undefined, undefined]);
  for (const from of outside) await story.served(from, frontends, both);
  await story.patch('web', { spec: { allocateLoadBalancerNodePorts: true } });
  await story.served('client', [...frontends, ...(await story.nodePorts('web', 'node-a'))], both);
});

test('should serve endpoints on same port and different protocol for internal traffic on Type LoadBalancer', async () => {
  const ports = [
    { name: 'tcp', protocol: 'TCP', port: 80, targetPort: 8080 },
    { name: 'udp', protocol: 'UDP', port: 80, targetPort: 5353 },
  ];
  const { story } = await begin({ ports });
  for (const from of ['pod9', 'node']) await story.served(from, await story.clusterIPs('web'), both);
});

test('should work for type=LoadBalancer', async () => {
  const { story, frontends } = await begin({ externalTrafficPolicy: 'Local' });
  await story.served('client', frontends, { servers: ['pod1'], source: sourceOf('client') });
});

test('should only target nodes with endpoints', async () => {
  const { story, frontends } = await begin({ externalTrafficPolicy: 'Local' });
  await story.served('client', frontends, { servers: ['pod1'] });
  await cluster.kubelet.end(story.namespace, 'pod1');
  await story.silent('client', frontends);
});

test('should work from pods', async () => {
  const { story, frontends } = await begin({ externalTrafficPolicy: 'Local' });
  await cluster.kubelet.end(story.namespace, 'pod1');
  // The policy does not apply to clients inside the cluster.
  for (const from of ['pod9', 'pod109']) await story.served(from, frontends, { servers: ['pod101'], source: sourceOf(from) });
});

test('a load balancer address with ipMode Proxy is not served', async () => {
  const { story, frontends } = await begin();
  await story.served('pod9', frontends, both);
  const ingress = frontends.map(({ address }) => ({ ip: address, ipMode: 'Proxy' }));
  const status = JSON.stringify({ status: { loadBalancer: { ingress: [...new Map(ingress.map((each) => [each.ip, each])).values()] } } });
  await story.kubectl(['patch', 'service', 'web', '--subresource=status', '--type=merge', '--patch', status]);
  for (const frontend of frontends) {
    await until('no server answers', async () => {
      const { answers } = await cluster.ask('pod9', { ...frontend, count: 4, timeoutMs: 300 });
      expect(answers).toEqual({});
      return true;
    });
  }
});
