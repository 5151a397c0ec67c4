// SPDX-License-Identifier: Apache-2.0
// The bad days of an API server, real ones: connections cut, refused, hanging, a history that is gone, tokens and rights that
// are not what they were. Pods ask all the time: no Service is ever withdrawn; and the kernel holds what the objects say
// within two seconds of the server's return.
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { askServices, askStatus } from '../../daemon/cli/client.ts';
import type { Asked } from '../support/lab/traffic.ts';
import { type KubeObject, until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

const SOON_MS = 2000;
const OUTAGE_MS = 60_000;
const PATIENCE_MS = 15_000;

let cluster: KubeCluster;
let story: Story;
let steady: Asked[];

const relay = async (order: 'go' | 'cut' | 'refuse' | 'hang'): Promise<number> => Number(await cluster.relay?.ask(order));
const socket = (): { socket: string; timeoutMs: number } => ({ socket: cluster.daemon('node-a').socket, timeoutMs: PATIENCE_MS });
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** VIP and port of every Service that the API has. */
async function wanted(): Promise<string[]> {
  const { items } = await cluster.api.get('/api/v1/services');
  return (items as KubeObject[])
    .flatMap(({ spec }) =>
      (spec.clusterIPs as string[]).flatMap((ip) => (spec.ports as KubeObject[]).map(({ port, protocol }) => `${ip} ${port}/${protocol}`)),
    )
    .sort();
}

/** The same, of what the kernel holds. */
async function realized(): Promise<string[]> {
  const { services } = await askServices(socket());
  return services
    .flatMap(({ frontends }) =>
      frontends.filter((frontend) => frontend.realized).map(({ address, port, protocol }) => `${address} ${port}/${protocol}`),
    )
    .sort();
}

/** Milliseconds until the kernel holds what the API does. */
async function caughtUp(): Promise<number> {
  const began = performance.now();
  const want = await wanted();
  await until('the kernel holds what the API does', async () => {
    expect(await realized()).toEqual(want);
    return true;
  });
  return performance.now() - began;
}

const problems = async (): Promise<string[]> =>
  (await askStatus(socket())).sources.flatMap((source) => source.problems.map(({ message }) => message));

const problem = (pattern: RegExp): Promise<string> =>
  until(`a problem like ${pattern.source}`, async () => (await problems()).find((message) => pattern.test(message)));

const noProblem = (): Promise<true> => until('no problem', async () => (await problems()).length === 0);

/** Services come, change and go. */
async function change(round: number): Promise<void> {
  const name = `changing-${round % 4}`;
  if ((await cluster.api.get(`/api/v1/namespaces/${story.namespace}/services/${name}`)) === undefined)
    await cluster.api.create(`/api/v1/namespaces/${story.namespace}/services`, story.service(name, { ports: [{ port: 1000 + round }] }));
  else await cluster.api.delete(`/api/v1/namespaces/${story.namespace}/services/${name}`);
}

/** Asks the steady Service until stopped; what failed. */
function asking(): { stop(): Promise<Record<string, number>> } {
  let isOver = false;
  const failed: Record<string, number> = {};
  const running = (async () => {
    while (!isOver) {
      for (const vip of steady) {
        const { failures } = await cluster.ask('pod9', { ...vip, count: 10 });
        for (const [why, count] of Object.entries(failures)) failed[why] = (failed[why] ?? 0) + count;
      }
    }
  })();
  return {
    stop: async () => {
      isOver = true;
      await running;
      return failed;
    },
  };
}

beforeAll(async () => {
  cluster = await KubeCluster.start({ proxy: 'sluice', hasRelay: true });
  story = await Story.begin(cluster);
  await story.apply(story.service('steady'));
  await story.run('steady', ['pod1', 'pod101']);
  steady = await story.clusterIPs('steady');
  await story.served('pod9', steady, { servers: ['pod1', 'pod101'] });
});

afterAll(() => cluster.close());

describe('no Service is withdrawn', () => {
  let asker: ReturnType<typeof asking>;
  beforeEach(() => {
    asker = asking();
  });
  afterEach(async () => {
    expect(await asker.stop()).toEqual({});
  });

  test('the connection is cut 100 times while Services change', async () => {
    for (let round = 0; round < 100; round += 1) {
      await change(round);
      await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    }
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test.for(['refuse', 'hang'] as const)(`the server does not answer for ${OUTAGE_MS / 1000} s: %s`, async (how) => {
    await relay(how);
    const over = pause(how === 'refuse' ? OUTAGE_MS : OUTAGE_MS / 4);
    await problem(
      how === 'refuse' ? /cannot be reached|was interrupted|closed the connection/ : /no answer to a ping|no TCP connection within/,
    );
    for (let round = 0; round < 7; round += 1) await change(round);
    await over;
    await relay('go');
    expect(await caughtUp()).toBeLessThan(SOON_MS);
    await noProblem();
  });

  test('the server has forgotten what happened since (410 Gone)', async () => {
    await relay('refuse');
    for (let round = 0; round < 7; round += 1) await change(round);
    // Its watch cache begins with the moment of its start.
    await cluster.plane.killApiServer();
    cluster.plane.startApiServer();
    await cluster.plane.ready();
    await relay('go');
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test('an agent that starts with the server out of reach serves what was pinned, and says that it is not ready', async () => {
    await relay('refuse');
    await cluster.stopProxy('node-a');
    await change(1);
    const ready = cluster.restartProxy('node-a');
    const status = await until('the agent answers', () => askStatus(socket()));
    expect(status.ready).toBe(false);
    expect(status.notReadyReasons).toContain('the first list of the sources is not finished');
    await problem(/cannot be reached/);
    for (const vip of steady) expect((await cluster.ask('node', vip)).failures).toEqual({});
    await relay('go');
    expect(await caughtUp()).toBeLessThan(SOON_MS);
    await ready;
  });

  test('a token is rotated, expires, and is there again', async () => {
    const token = readFileSync(cluster.tokenFile, 'utf8');
    writeFileSync(cluster.tokenFile, await cluster.api.kubectl(['create', 'token', 'sluice', '--namespace', 'kube-system']));
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    await change(2);
    expect(await caughtUp()).toBeLessThan(SOON_MS);
    // Each resource comes back in its own time, and the cut is a problem until the last of them has.
    await noProblem();
    writeFileSync(cluster.tokenFile, 'no.such.token');
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    expect(await problem(/services.*401/)).toContain('may have expired');
    writeFileSync(cluster.tokenFile, token);
    await noProblem();
    await change(2);
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test.for(['watch', 'list'])('the verb %s is taken from the role', async (verb) => {
    const role = '/apis/rbac.authorization.k8s.io/v1/clusterroles/sluice';
    const { rules } = await cluster.api.get(role);
    const without = (rules as KubeObject[]).map((rule) => ({ ...rule, verbs: (rule.verbs as string[]).filter((each) => each !== verb) }));
    await cluster.api.patch(role, { rules: without });
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    // A list in pieces is not asked for where a watch sends everything.
    if (verb === 'watch')
      expect(await problem(/endpointslices/)).toContain(
        'the ClusterRole must grant the verb "watch" on the resource "endpointslices.discovery.k8s.io"',
      );
    await cluster.api.patch(role, { rules });
    await noProblem();
    await change(3);
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });
});
