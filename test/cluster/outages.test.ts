// SPDX-License-Identifier: Apache-2.0
// Failures of a real API server: connections that are cut, are refused or hang, a lost watch history, and changed tokens and
// permissions. Pods send requests all the time. No Service may become unreachable, and the kernel must match the objects soon
// after the server has returned. The times between two attempts are tested on a fake clock in test/unit/source/reflector-retries.test.ts.
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { askServices, askStatus } from '../../daemon/cli/client.ts';
import type { LabRequest } from '../support/lab/traffic.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

/**
 * Maximum time until the kernel matches the API. An idle machine needs two seconds. Without retries at short intervals it would
 * need minutes.
 */
const SOON_MS = 15_000;
const OUTAGE_MS = 60_000;
const TIMEOUT_MS = 15_000;

let cluster: KubeCluster;
let story: Story;
let steady: LabRequest[];

const relay = async (order: 'go' | 'cut' | 'refuse' | 'hang'): Promise<number> => Number(await cluster.relay?.ask(order));
const socket = (): { socket: string; timeoutMs: number } => ({ socket: cluster.daemon('node-a').socket, timeoutMs: TIMEOUT_MS });
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns the VIP, port and protocol of every Service port in the API server. */
async function wanted(): Promise<string[]> {
  const { items } = await cluster.api.existing('/api/v1/services');
  return items
    .flatMap(({ spec }) => spec.clusterIPs.flatMap((ip) => spec.ports.map(({ port, protocol }) => `${ip} ${port}/${protocol}`)))
    .sort();
}

/** Returns the VIP, port and protocol of every frontend in the kernel. */
async function realized(): Promise<string[]> {
  const { services } = await askServices(socket());
  return services
    .flatMap(({ frontends }) =>
      frontends.filter((frontend) => frontend.realized).map(({ address, port, protocol }) => `${address} ${port}/${protocol}`),
    )
    .sort();
}

/** Returns the milliseconds until the kernel matches the API. */
async function caughtUp(): Promise<number> {
  const began = performance.now();
  const want = await wanted();
  await until('the kernel matches the API', async () => {
    expect(await realized()).toEqual(want);
    return true;
  });
  const took = performance.now() - began;
  console.log(`the kernel holds what the API does after ${took.toFixed(0)} ms`);
  return took;
}

const problems = async (): Promise<string[]> =>
  (await askStatus(socket())).sources.flatMap((source) => source.problems.map(({ message }) => message));

const problem = (pattern: RegExp): Promise<string> =>
  until(`a reported problem that matches ${pattern.source}`, async () => (await problems()).find((message) => pattern.test(message)));

const noProblem = (): Promise<true> => until('no problem is reported', async () => (await problems()).length === 0);

/** Creates or deletes one of four Services. */
async function change(round: number): Promise<void> {
  const name = `changing-${round % 4}`;
  if ((await cluster.api.get(`/api/v1/namespaces/${story.namespace}/services/${name}`)) === undefined)
    await cluster.api.create(`/api/v1/namespaces/${story.namespace}/services`, story.service(name, { ports: [{ port: 1000 + round }] }));
  else await cluster.api.delete(`/api/v1/namespaces/${story.namespace}/services/${name}`);
}

/** Sends requests to the Service `steady` until stopped. stop() returns the failures. */
function asking(): { stop(): Promise<Record<string, number>> } {
  const state = { isOver: false };
  const failed: Record<string, number> = {};
  const running = (async () => {
    while (!state.isOver) {
      for (const vip of steady) {
        const { failures } = await cluster.ask('pod9', { ...vip, count: 10 });
        for (const [why, count] of Object.entries(failures)) failed[why] = (failed[why] ?? 0) + count;
      }
    }
  })();
  return {
    stop: async () => {
      state.isOver = true;
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

describe('every Service stays reachable', () => {
  let asker: ReturnType<typeof asking>;
  beforeEach(() => {
    asker = asking();
  });
  afterEach(async () => {
    expect(await asker.stop()).toEqual({});
  });

  test('every Service stays reachable while the connection is cut 100 times and Services change', async () => {
    for (let round = 0; round < 100; round += 1) {
      await change(round);
      await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    }
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test.for(['refuse', 'hang'] as const)(
    `every Service stays reachable while the server does not answer for ${OUTAGE_MS / 1000} s: %s`,
    async (how) => {
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
    },
  );

  test('every Service stays reachable when the watch history is lost (410 Gone)', async () => {
    await relay('refuse');
    for (let round = 0; round < 7; round += 1) await change(round);
    // The watch cache of a restarted API server has no history from before the restart.
    await cluster.plane.killApiServer();
    cluster.plane.startApiServer();
    await cluster.plane.ready();
    await relay('go');
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test('an agent that starts while the server is unreachable serves from the pinned maps and is not ready', async () => {
    await relay('refuse');
    await cluster.stopProxy('node-a');
    await change(1);
    const ready = cluster.restartProxy('node-a');
    const status = await until('the agent answers', () => askStatus(socket()));
    expect(status.ready).toBe(false);
    expect(status.notReadyReasons.join()).toMatch(/the first list of the source .+ is not finished/);
    await problem(/cannot be reached/);
    for (const vip of steady) expect((await cluster.ask('node', vip)).failures).toEqual({});
    await relay('go');
    expect(await caughtUp()).toBeLessThan(SOON_MS);
    await ready;
  });

  test('every Service stays reachable while a token is rotated, becomes invalid, and is replaced', async () => {
    const token = readFileSync(cluster.tokenFile, 'utf8');
    writeFileSync(cluster.tokenFile, await cluster.api.kubectl(['create', 'token', 'sluice', '--namespace', 'kube-system']));
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    await change(2);
    expect(await caughtUp()).toBeLessThan(SOON_MS);
    // The interrupted connection is reported as a problem until every resource has reconnected.
    await noProblem();
    writeFileSync(cluster.tokenFile, 'no.such.token');
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    expect(await problem(/services.*401/)).toContain('may have expired');
    writeFileSync(cluster.tokenFile, token);
    await noProblem();
    await change(2);
    expect(await caughtUp()).toBeLessThan(SOON_MS);
  });

  test.for(['watch', 'list'])('every Service stays reachable when the verb %s is removed from the role', async (verb) => {
    const role = '/apis/rbac.authorization.k8s.io/v1/clusterroles/sluice';
    const { rules } = await cluster.api.existing(role);
    // A rule without verbs is not valid.
    const without = rules
      .map((rule) => ({ ...rule, verbs: rule.verbs.filter((each) => each !== verb) }))
      .filter(({ verbs }) => verbs.length > 0);
    await cluster.api.patch(role, { rules: without });
    await until('there is a connection to cut', async () => (await relay('cut')) > 0);
    // With a streaming list only the verb watch is needed.
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
