// SPDX-License-Identifier: Apache-2.0
// What a burst made large goes back to the system: in a process of its own, since it turns screws of V8.
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

const memory = new URL('../../../daemon/base/memory.ts', import.meta.url).href;
/** 200,000 objects live at once, then none of them. */
const burst = `
  const { giveBackMemory } = await import(${JSON.stringify(memory)});
  let rows = Array.from({ length: 200_000 }, (_, i) => ({ address: String(i), ports: [i, i], name: { text: 'n' + i } }));
  const heldMiB = process.memoryUsage().heapTotal / 2 ** 20;
  if (rows.length > 0) rows = [];
  const givenMiB = giveBackMemory();
  console.log(JSON.stringify({ heldMiB, givenMiB, leftMiB: process.memoryUsage().heapTotal / 2 ** 20, hasCollector: 'gc' in globalThis }));
`;

test('a heap that a burst has made large is small again, and V8 shows no collector to others', () => {
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', burst], { encoding: 'utf8' });
  const { heldMiB, givenMiB, leftMiB, hasCollector } = JSON.parse(output) as Record<string, number | boolean>;
  expect(Number(givenMiB)).toBeGreaterThan(10);
  expect(Number(leftMiB)).toBeLessThan(Number(heldMiB) / 2);
  expect(hasCollector).toBe(false);
});
