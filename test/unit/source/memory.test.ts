// SPDX-License-Identifier: Apache-2.0
// What the Kubernetes source keeps: rows, and nothing of the text that they came in; and an outage costs no memory.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import { type KubernetesWorld, oneOfEach, slice, startKubernetes } from './kubernetes-fixture.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const megabytes = 1e6;

/** After a collection. */
async function heapOf(world: KubernetesWorld): Promise<number> {
  collect();
  // Weak references and finalizers have a turn of their own.
  await world.turn();
  collect();
  return process.memoryUsage().heapUsed;
}

test.for([true, false])(
  '20 MB of objects, most of it annotations, are kept as rows only (streaming lists: %s)',
  async (hasStreamingLists) => {
    const world = await startKubernetes(oneOfEach, ({ server }) => Object.assign(server, { hasStreamingLists, pageItems: 100 }));
    const { server } = world;
    const annotations = { note: 'a long note, '.repeat(1500) };
    const addresses = Array.from({ length: 10 }, (_, i) => `10.244.1.${i}`);
    const large = Array.from({ length: 1000 }, (_, i) => slice(`web-with-a-long-name-${i}`, 'web', addresses)).map((object) => ({
      ...object,
      metadata: { ...object.metadata, annotations },
    }));
    server.hold();
    server.put(...large);
    server.release(() => []);
    // What was taken from the watch before would count as well.
    const before = await heapOf(world);
    await world.source.rescan();
    while (world.tables.slices.size < 1001) await world.turn();
    await world.turn();
    const kept = (await heapOf(world)) - before;
    world.expectEqual();
    expect(kept).toBeLessThan(8 * megabytes);
  },
);

test('thousands of tries that fail leave nothing behind', async () => {
  const world = await startKubernetes(oneOfEach);
  world.server.fail('refuse');
  await world.advance(60_000);
  world.asked();
  const before = await heapOf(world);
  await world.advance(1_200_000);
  expect(world.asked().length).toBeGreaterThan(5000);
  expect((await heapOf(world)) - before).toBeLessThan(2 * megabytes);
});
