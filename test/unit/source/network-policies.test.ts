// SPDX-License-Identifier: Apache-2.0
// The probe that finds out whether the cluster has NetworkPolicies. It sends one LIST at the start and then one about every ten minutes.
// If it gets no answer, this is not a problem of the agent.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { NetworkPolicyProbe } from '../../../daemon/source/kubernetes/network-policies.ts';
import { ApiServer, type Fault } from '../../support/double/api-server.ts';
import { MemoryClient } from '../../support/double/memory-client.ts';
import type { RawObject } from '../../support/double/objects.ts';
import { internal } from '../../support/double/statuses.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** A NetworkPolicy for the API server double. The cast is needed because RawObject has only the kinds that the agent follows. */
const policy = (name: string): RawObject =>
  ({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name, namespace: 'default' } },
    spec: { podSelector: {} },
  }) as unknown as RawObject;

class World {
  readonly clock = new FakeClock();
  readonly server = new ApiServer(this.clock);
  readonly probe = new NetworkPolicyProbe({ client: new MemoryClient(this.server, this.clock), clock: this.clock });

  async start(): Promise<this> {
    onTestFinished(() => this.probe.stop());
    this.probe.start();
    return this.settle();
  }

  async settle(): Promise<this> {
    for (let turns = 0; turns < 20; turns += 1) await nextTurn();
    return this;
  }

  /** Advances from timer to timer, so that a request that is answered can cancel its time limit before the clock reaches the limit. */
  async advance(ms: number): Promise<this> {
    const end = this.clock.now() + ms;
    for (let next = this.clock.nextTimer; next !== undefined && next <= end; next = this.clock.nextTimer) {
      this.clock.advance(next - this.clock.now());
      await this.settle();
    }
    this.clock.advance(end - this.clock.now());
    return this.settle();
  }
}

const unenforced: unknown = expect.stringMatching(/^Sluice does not enforce NetworkPolicies, .*: check that another agent/);

test('policies are reported after one LIST of one object', async () => {
  const world = new World();
  world.server.put(policy('a'), policy('b'), policy('c'));
  expect([world.probe.summary(), world.probe.problems()]).toEqual(['not asked yet', []]);
  await world.start();
  expect([world.probe.summary(), world.probe.problems()]).toEqual(['the cluster has 3 NetworkPolicies', [unenforced]]);
  expect(world.server.requests.map(({ verb, path }) => `${verb} ${path}`)).toEqual([
    'list /apis/networking.k8s.io/v1/networkpolicies?limit=1',
  ]);
});

test('the probe sends the next LIST after ten minutes, and its report follows the answer', async () => {
  const world = await new World().start();
  expect([world.probe.summary(), world.probe.problems()]).toEqual(['no NetworkPolicy in the cluster', []]);
  world.server.put(policy('a'));
  await world.advance(590_000);
  expect(world.server.requests).toHaveLength(1);
  await world.advance(20_000);
  expect([world.probe.summary(), world.probe.problems()]).toEqual(['the cluster has 1 NetworkPolicy', [unenforced]]);
  world.server.store.delete('NetworkPolicy', 'default/a');
  await world.advance(600_000);
  expect(world.probe.problems()).toEqual([]);
});

test('a missing right to list policies is not a problem', async () => {
  const world = new World();
  world.server.forbidden.add('list networkpolicies');
  world.server.put(policy('a'));
  await world.start();
  expect([world.probe.summary(), world.probe.problems()]).toEqual([
    'unknown: the ClusterRole does not grant the verb "list" on networkpolicies.networking.k8s.io',
    [],
  ]);
  await world.advance(60_000);
  expect(world.server.requests).toHaveLength(1);
});

test.for<{ name: string; fault: Fault; says: RegExp }>([
  { name: 'no connection', fault: 'refuse', says: /^unknown: .*ECONNREFUSED/ },
  { name: 'no response', fault: 'hang', says: /^unknown: .*did not respond within 10 s/ },
  { name: 'a response that stops', fault: { stallAfter: 10 }, says: /^unknown: no answer within 20 s/ },
  { name: 'a response that is cut', fault: { cutAfter: 10 }, says: /^unknown: .*interrupted/ },
  { name: 'no JSON', fault: { body: 'hello' }, says: /^unknown: the server sent invalid JSON/ },
  { name: 'no list', fault: { body: '{"kind":"Status"}' }, says: /^unknown: the server sent something other than a list/ },
  {
    name: 'a huge body',
    fault: { body: `{"items":["${'x'.repeat(3 << 20)}"]}` },
    says: /^unknown: the server sent more than 2097152 bytes/,
  },
  { name: 'an error of the server', fault: internal, says: /^unknown: the API server answers 500/ },
])('$name is not a problem, and the LIST is sent again', async ({ fault, says }) => {
  const world = new World();
  world.server.put(policy('a'));
  world.server.fault = () => fault;
  await world.start();
  await world.advance(25_000);
  expect([world.probe.summary(), world.probe.problems()]).toEqual([expect.stringMatching(says), []]);
  world.server.serve();
  await world.advance(600_000);
  expect(world.probe.problems()).toEqual([unenforced]);
});
