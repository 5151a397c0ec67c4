// SPDX-License-Identifier: Apache-2.0
// Kubernetes' end-to-end tests of session affinity, under their upstream names. Each family and protocol of a frontend has its own
// affinity.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;
const servers = ['pod1', 'pod2', 'pod101'];
const TIMEOUT_SECONDS = 4;
const affine = { sessionAffinity: 'ClientIP' };
const brief = { ...affine, sessionAffinityConfig: { clientIP: { timeoutSeconds: TIMEOUT_SECONDS } } };

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

/** Makes `count` connections from a client. Returns the sorted names of the servers that answered. */
async function whoAnswers(from: string, frontend: LabRequest, count: number): Promise<string> {
  const { answers, failures } = await cluster.ask(from, { ...frontend, count });
  expect(failures, `${from} to ${frontend.address}`).toEqual({});
  return Object.keys(answers).sort().join();
}

async function keepsItsServer(from: string, frontends: readonly LabRequest[]): Promise<void> {
  for (const frontend of frontends) {
    await until('one server answers', async () => servers.includes(await whoAnswers(from, frontend, 15)));
    expect(servers).toContain(await whoAnswers(from, frontend, 30));
  }
}

/** Creates one Service of this kind for each spec. Returns the frontends at which each Service is tested. */
async function begin(kind: Kind, specs: readonly object[]): Promise<{ story: Story; frontends: LabRequest[][] }> {
  const story = await Story.begin(cluster);
  const names = specs.map((_, i) => `web-${i}`);
  await story.apply(...specs.map((spec, i) => story.service(`web-${i}`, { ...kind.spec, ...spec, selector: { app: 'web' } })));
  await story.run('web', servers);
  const frontends = await Promise.all(names.map((name) => kind.frontends(story, name)));
  // All frontends are programmed before the affinity is tested.
  for (const each of frontends)
    for (const frontend of each) await until('the frontend is served', async () => (await whoAnswers('pod109', frontend, 1)) !== '');
  return { story, frontends };
}

interface Kind {
  readonly what: string;
  readonly spec: object;
  readonly clients: readonly string[];
  readonly frontends: (story: Story, name: string) => Promise<LabRequest[]>;
}

const kinds: readonly Kind[] = [
  {
    what: 'service with type clusterIP',
    spec: {},
    clients: ['pod9', 'node', 'client'],
    frontends: (story, name) => story.clusterIPs(name),
  },
  {
    what: 'NodePort service',
    spec: { type: 'NodePort' },
    clients: ['pod9', 'client'],
    frontends: (story, name) => story.nodePorts(name, 'node-a'),
  },
];

describe.each(kinds)('$what', (kind) => {
  test(`should have session affinity work for ${kind.what} [LinuxOnly]`, async () => {
    const { frontends } = await begin(kind, [affine]);
    for (const from of kind.clients) await keepsItsServer(from, frontends.flat());
  });

  test(`should have session affinity timeout work for ${kind.what} [LinuxOnly]`, async () => {
    const { frontends } = await begin(kind, [brief, brief, brief, brief]);
    const [kept = [], ...left] = frontends;
    const from = 'pod9';
    const askAll = async (asked: readonly LabRequest[]): Promise<string[]> => {
      const answered: string[] = [];
      for (const frontend of asked) answered.push(await whoAnswers(from, frontend, 3));
      return answered;
    };
    const first = await askAll(kept);
    /**
     * Sends requests to the frontends in `left`. After each of these it sends requests to those in `kept`, because on a busy
     * machine the whole round may take longer than the affinity timeout.
     */
    const askLeft = async (): Promise<string[]> => {
      const answered: string[] = [];
      for (const frontend of left.flat()) {
        answered.push(await whoAnswers(from, frontend, 3));
        expect(await askAll(kept)).toEqual(first);
      }
      return answered;
    };
    const before = { kept: first, left: await askLeft() };
    for (const server of [...before.kept, ...before.left]) expect(servers).toContain(server);
    // Only the frontends in `kept` get requests, for longer than the affinity timeout.
    for (const end = performance.now() + TIMEOUT_SECONDS * 1000 + 500; performance.now() < end;) {
      expect(await askAll(kept)).toEqual(before.kept);
    }
    // With three servers, twelve frontends all choose the same servers again with a probability of 1 in 531,441.
    expect(await askLeft()).not.toEqual(before.left);
  });

  test(`should be able to switch session affinity for ${kind.what} [LinuxOnly]`, async () => {
    const { story, frontends } = await begin(kind, [{}]);
    const from = 'pod9';
    const spreads = async (): Promise<void> => {
      for (const frontend of frontends.flat())
        await until('all servers answer', async () => (await whoAnswers(from, frontend, 40)) === [...servers].sort().join());
    };
    await spreads();
    await story.patch('web-0', { spec: affine });
    await keepsItsServer(from, frontends.flat());
    await story.patch('web-0', { spec: { sessionAffinity: 'None', sessionAffinityConfig: null } });
    await spreads();
  });
});
