// SPDX-License-Identifier: Apache-2.0
// Memory of the Kubernetes source. The source retains rows, and not the text that the rows were parsed from. An outage does not
// increase the memory.
import { expect, test } from 'vitest';

import { collectGarbage } from '../../support/garbage.ts';
import { type KubernetesWorld, oneOfEach, slice, startKubernetes } from './kubernetes-fixture.ts';

const megabytes = 1e6;

/** Heap after a garbage collection. */
async function heapOf(world: KubernetesWorld): Promise<number> {
  collectGarbage();
  // Weak references and finalizers are processed in a later turn.
  await world.turn();
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

test.for([true, false])(
  'only the rows of 20 MB of objects with large annotations stay in memory (streaming lists: %s)',
  async (hasStreamingLists) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => Object.assign(server, { hasStreamingLists, pageItems: 100 }));
    const { server } = world;
    const annotations = { note: 'a long note, '.repeat(1500) };
    const addresses = Array.from({ length: 10 }, (_, i) => `10.244.1.${i}`);
    const large = Array.from({ length: 1000 }, (_, i) => slice(`web-with-a-long-name-${i}`, 'web', addresses)).map((object) => ({
      ...object,
      metadata: { ...object.metadata, annotations },
    }));
    server.holdEvents();
    server.put(...large);
    server.releaseEvents(() => []);
    // The server sends no events for these objects, because the memory of the events would be included in the measurement.
    const before = await heapOf(world);
    await world.source.rescan();
    while (world.tables.slices.size < 1001) await world.turn();
    await world.turn();
    const growth = (await heapOf(world)) - before;
    world.expectEqual();
    expect(growth).toBeLessThan(8 * megabytes);
  },
);

test('thousands of failed tries do not increase the memory', async () => {
  const world = await startKubernetes(oneOfEach);
  world.server.fail('refuse');
  await world.advance(60_000);
  world.requests();
  const before = await heapOf(world);
  await world.advance(1_200_000);
  expect(world.requests().length).toBeGreaterThan(5000);
  expect((await heapOf(world)) - before).toBeLessThan(2 * megabytes);
});
