// SPDX-License-Identifier: Apache-2.0
// Upstream's stories of session affinity, under upstream's names. A frontend of each family and protocol remembers for itself.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;
const servers = ['pod1', 'pod2', 'pod101'];
const TIMEOUT_SECONDS = 2;
const affine = { sessionAffinity: 'ClientIP' };
const brief = { ...affine, sessionAffinityConfig: { clientIP: { timeoutSeconds: TIMEOUT_SECONDS } } };

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

/** Who answers that client there, of so many connections. */
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

/** A Service, and the frontends that its kind is asked at. */
async function begin(kind: Kind, specs: readonly object[]): Promise<{ story: Story; frontends: LabRequest[][] }> {
  const story = await Story.begin(cluster);
  const names = specs.map((_, i) => `web-${i}`);
  await story.apply(...specs.map((spec, i) => story.service(`web-${i}`, { ...kind.spec, ...spec, selector: { app: 'web' } })));
  await story.run('web', servers);
  const frontends = await Promise.all(names.map((name) => kind.frontends(story, name)));
  // All of them are known before anybody is asked for affinity.
  for (const each of frontends)
    for (const frontend of each) await until('it is served', async () => (await whoAnswers('pod109', frontend, 1)) !== '');
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
    const before = { kept: await askAll(kept), left: await askAll(left.flat()) };
    for (const server of [...before.kept, ...before.left]) expect(servers).toContain(server);
    // The first is asked for longer than the affinity lasts, the others are not.
    for (const end = performance.now() + TIMEOUT_SECONDS * 1000 + 500; performance.now() < end;) {
      expect(await askAll(kept)).toEqual(before.kept);
    }
    // Of three servers, twelve frontends would all choose the same again once in half a million times.
    expect(await askAll(left.flat())).not.toEqual(before.left);
  });

  test(`should be able to switch session affinity for ${kind.what} [LinuxOnly]`, async () => {
    const { story, frontends } = await begin(kind, [{}]);
    const from = 'pod9';
    const spreads = async (): Promise<void> => {
      for (const frontend of frontends.flat())
        await until('all answer', async () => (await whoAnswers(from, frontend, 40)) === [...servers].sort().join());
    };
    await spreads();
    await story.patch('web-0', { spec: affine });
    await keepsItsServer(from, frontends.flat());
    await story.patch('web-0', { spec: { sessionAffinity: 'None', sessionAffinityConfig: null } });
    await spreads();
  });
});
