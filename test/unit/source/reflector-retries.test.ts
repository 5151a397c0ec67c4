// SPDX-License-Identifier: Apache-2.0
// How long the Kubernetes source waits before it tries again, and what a server's Retry-After does to that.
import { describe, expect, test } from 'vitest';
import { tooMany, unavailable } from '../../support/double/statuses.ts';
import { type KubernetesWorld, oneOfEach, startKubernetes } from './kubernetes-fixture.ts';

describe('the reflector', () => {
  /** When services were asked for, in ms since the call. */
  async function times(world: KubernetesWorld, ms: number): Promise<number[]> {
    const start = world.clock.now();
    const found: number[] = [];
    const { fault } = world.server;
    world.server.fault = (asked) => {
      if (asked.collection.kind === 'Service') found.push(world.clock.now() - start);
      return fault(asked);
    };
    world.server.cut();
    await world.advance(ms);
    return found;
  }

  const gaps = (found: readonly number[]): number[] => found.slice(1).map((time, i) => time - (found[i] ?? 0));

  test.for([1, 7, 30])('waits as long as Retry-After: %i says, and a little longer, not the same on each node', async (seconds) => {
    for (const refusal of [tooMany(seconds), unavailable(seconds)]) {
      const world = await startKubernetes(oneOfEach);
      world.server.fault = () => refusal;
      // The first are the back-off's own.
      const found = gaps(await times(world, seconds * 20_000)).slice(5);
      expect(Math.min(...found)).toBeGreaterThanOrEqual(seconds * 1000);
      expect(Math.max(...found)).toBeLessThanOrEqual(Math.max(seconds * 1250, 1500));
      expect(new Set(found).size).toBeGreaterThan(5);
    }
  });

  test('believes no Retry-After beyond a minute', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => tooMany(86_400);
    expect(Math.max(...gaps(await times(world, 600_000)))).toBeLessThanOrEqual(75_000);
  });

  test('tries a server that is away quickly at first, then about once a second', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => 'refuse';
    const found = await times(world, 60_000);
    expect(found[0]).toBeLessThanOrEqual(100);
    expect(Math.max(...gaps(found))).toBeLessThanOrEqual(1000);
    expect(Math.min(...gaps(found).slice(5))).toBeGreaterThanOrEqual(500);
  });

  test('after an outage, and a while of calm, is as quick as at first', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fail('refuse');
    await world.advance(600_000);
    world.server.serve();
    await world.advance(15_000);
    world.asked();
    world.server.cut();
    await world.advance(100);
    expect(world.asked('Service')).toHaveLength(1);
  });

  test('does not take a watch that is cut at once for calm', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => ({ cutAfter: 0 });
    expect(Math.min(...gaps(await times(world, 60_000)).slice(5))).toBeGreaterThanOrEqual(500);
  });
});
