// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of UDP flows whose server goes away, under their upstream names: one socket continues to send, and
// the next server must receive its datagrams.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OpenSocket } from '../support/lab/peers.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

const udp = (frontends: readonly LabRequest[]): LabRequest[] => frontends.filter(({ protocol }) => protocol === 'udp');

/** One UDP socket. hears() repeats a request until the expected server answers. */
class Flow {
  readonly #held: OpenSocket;
  readonly #what: string;

  private constructor(held: OpenSocket, what: string) {
    this.#held = held;
    this.#what = what;
  }

  static async start(from: string, { address, port }: LabRequest): Promise<Flow> {
    return new Flow(await OpenSocket.start(cluster.lab, from, { kind: 'udp', address, port }), `${from} to ${address}`);
  }

  async hears(server: string): Promise<void> {
    await until(`${this.#what} is answered by ${server}`, async () => {
      expect(await this.#held.ask()).toBe(server);
      return true;
    });
  }

  async isNotAnswered(): Promise<void> {
    expect(['timeout', 'ECONNREFUSED']).toContain(await this.#held.ask());
  }

  async end(): Promise<void> {
    await this.#held.process.kill();
  }
}

describe('a server Pod cycles', () => {
  interface Case {
    readonly title: string;
    readonly spec: object;
    readonly from: string;
    readonly next: string;
    readonly frontends: (story: Story) => Promise<LabRequest[]>;
  }

  const cases: readonly Case[] = [
    {
      title: 'should be able to preserve UDP traffic when server pod cycles for a NodePort service',
      ...{ spec: { type: 'NodePort' }, from: 'client', next: 'pod101', frontends: (story) => story.nodePorts('web', 'node-a') },
    },
    {
      title: 'should be able to preserve UDP traffic when server pod cycles for a ClusterIP service',
      ...{ spec: {}, from: 'pod9', next: 'pod101', frontends: (story) => story.clusterIPs('web') },
    },
    {
      title:
        'should be able to preserve UDP traffic when server pod cycles for a ClusterIP service with InternalTrafficPolicy set to Local',
      ...{ spec: { internalTrafficPolicy: 'Local' }, from: 'pod9', next: 'pod2', frontends: (story) => story.clusterIPs('web') },
    },
    {
      title: 'should be able to preserve UDP traffic when server pod cycles for a ClusterIP service and client is hostNetwork',
      ...{ spec: {}, from: 'node', next: 'pod101', frontends: (story) => story.clusterIPs('web') },
    },
  ];

  for (const { title, spec, from, next, frontends } of cases) {
    test(title, async () => {
      const story = await Story.begin(cluster);
      await story.apply(story.service('web', spec));
      await story.run('web', ['pod1']);
      const flows = await Promise.all(udp(await frontends(story)).map((frontend) => Flow.start(from, frontend)));
      for (const flow of flows) await flow.hears('pod1');
      await story.run('web', [next]);
      await cluster.kubelet.end(story.namespace, 'pod1');
      for (const flow of flows) await flow.hears(next);
      await Promise.all(flows.map((flow) => flow.end()));
    });
  }
});

test('should be able to preserve UDP traffic when initial unready endpoints get ready', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web', { type: 'NodePort' }));
  await story.run('web', ['pod1'], { isReady: false });
  const frontends = udp([...(await story.nodePorts('web', 'node-a')), ...(await story.clusterIPs('web'))]);
  const flows = await Promise.all(frontends.map((frontend) => Flow.start('pod109', frontend)));
  // At this point there is no backend. The same sockets must be answered later.
  for (const flow of flows) await flow.isNotAnswered();
  await cluster.kubelet.setReady(story.namespace, 'pod1', true);
  for (const flow of flows) await flow.hears('pod1');
  await Promise.all(flows.map((flow) => flow.end()));
});

test('should be able to cleanup conntrack entries when UDP service target port changes for a NodePort service', async () => {
  const story = await Story.begin(cluster);
  await cluster.serve('pod1', { name: 'pod1-other', tcp: 8081, udp: 5354 });
  const ports = (targetPort: number): object[] => [{ name: 'dns', port: 53, targetPort, protocol: 'UDP', nodePort: 30_053 }];
  await story.apply(story.service('web', { type: 'NodePort', ports: ports(5353) }));
  await story.run('web', ['pod1']);
  const flows = await Promise.all((await story.nodePorts('web', 'node-a')).map((frontend) => Flow.start('client', frontend)));
  for (const flow of flows) await flow.hears('pod1');
  await story.patch('web', { spec: { ports: ports(5354) } });
  for (const flow of flows) await flow.hears('pod1-other');
  await Promise.all(flows.map((flow) => flow.end()));
});

test('an open TCP connection stays with its Pod while the Pod terminates', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('web'));
  await story.run('web', ['pod1']);
  const vips = await story.clusterIPs('web');
  await story.served('pod9', vips, { servers: ['pod1'] });
  const web = vips.filter(({ protocol }) => protocol === 'tcp');
  const held = await Promise.all(web.map(({ address, port }) => OpenSocket.start(cluster.lab, 'pod9', { kind: 'tcp', address, port })));
  for (const each of held) expect(await each.ask()).toBe('pod1');
  await story.run('web', ['pod101']);
  await cluster.kubelet.terminate(story.namespace, 'pod1', { isReady: false });
  await story.served('pod9', vips, { servers: ['pod101'] });
  for (const each of held) expect(await each.ask()).toBe('pod1');
  await cluster.kubelet.end(story.namespace, 'pod1');
  await story.served('pod9', vips, { servers: ['pod101'] });
  for (const each of held) expect(await each.ask()).toBe('pod1');
  await Promise.all(held.map((each) => each.process.kill()));
});
