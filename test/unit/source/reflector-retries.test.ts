// SPDX-License-Identifier: Apache-2.0
// Delays of the Kubernetes source before it retries, with and without the header Retry-After.
import { describe, expect, test } from 'vitest';
import { tooMany, unavailable } from '../../support/double/statuses.ts';
import { type KubernetesWorld, oneOfEach, startKubernetes } from './kubernetes-fixture.ts';

describe('the reflector', () => {
  /** Times of requests for Services, in ms since the call. */
  async function times(world: KubernetesWorld, ms: number): Promise<number[]> {
    const start = world.clock.now();
    const found: number[] = [];
    const { fault } = world.server;
    world.server.fault = (request) => {
      if (request.collection.kind === 'Service') found.push(world.clock.now() - start);
      return fault(request);
    };
    world.server.cut();
    await world.advance(ms);
    return found;
  }

  const gaps = (found: readonly number[]): number[] => found.slice(1).map((time, i) => time - (found[i] ?? 0));

  test.for([1, 7, 30])('the reflector waits for the %i s of Retry-After and a random addition of up to a quarter', async (seconds) => {
    for (const refusal of [tooMany(seconds), unavailable(seconds)]) {
      const world = await startKubernetes(oneOfEach);
      world.server.fault = () => refusal;
      // The first delays are shorter than the back-off limit, so they are skipped.
      const found = gaps(await times(world, seconds * 20_000)).slice(5);
      expect(Math.min(...found)).toBeGreaterThanOrEqual(seconds * 1000);
      expect(Math.max(...found)).toBeLessThanOrEqual(Math.max(seconds * 1250, 1500));
      expect(new Set(found).size).toBeGreaterThan(5);
    }
  });

  test('the reflector limits Retry-After to one minute', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => tooMany(86_400);
    expect(Math.max(...gaps(await times(world, 600_000)))).toBeLessThanOrEqual(75_000);
  });

  test('the reflector retries an unreachable server quickly at first, then about once a second', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => 'refuse';
    const found = await times(world, 60_000);
    expect(found[0]).toBeLessThanOrEqual(100);
    expect(Math.max(...gaps(found))).toBeLessThanOrEqual(1000);
    expect(Math.min(...gaps(found).slice(5))).toBeGreaterThanOrEqual(500);
  });

  test('the reflector retries as quickly as at first if a watch has worked for 10 s after an outage', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fail('refuse');
    await world.advance(600_000);
    world.server.serve();
    await world.advance(15_000);
    world.requests();
    world.server.cut();
    await world.advance(100);
    expect(world.requests('Service')).toHaveLength(1);
  });

  test('the reflector does not reset the back-off for a watch that is interrupted at once', async () => {
    const world = await startKubernetes(oneOfEach);
    world.server.fault = () => ({ cutAfter: 0 });
    expect(Math.min(...gaps(await times(world, 60_000)).slice(5))).toBeGreaterThanOrEqual(500);
  });
});
