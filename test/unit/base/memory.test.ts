// SPDX-License-Identifier: Apache-2.0
// Tests that releaseMemory() returns unused heap memory to the system. The test calls it in a child process, because the
// function changes V8 flags, which would affect other tests.
import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

const memory = new URL('../../../daemon/base/memory.ts', import.meta.url).href;
/** Allocates 200,000 objects and frees all of them. */
const burst = `
  const { releaseMemory } = await import(${JSON.stringify(memory)});
  let rows = Array.from({ length: 200_000 }, (_, i) => ({ address: String(i), ports: [i, i], name: { text: 'n' + i } }));
  const usedMiB = process.memoryUsage().heapTotal / 2 ** 20;
  if (rows.length > 0) rows = [];
  const freedMiB = releaseMemory();
  console.log(JSON.stringify({ usedMiB, freedMiB, leftMiB: process.memoryUsage().heapTotal / 2 ** 20, hasCollector: 'gc' in globalThis }));
`;

test('a heap that was large once becomes small again, and V8 does not expose its collector', () => {
  const output = execFileSync(process.execPath, ['--input-type=module', '--eval', burst], { encoding: 'utf8' });
  const { usedMiB, freedMiB, leftMiB, hasCollector } = JSON.parse(output) as Record<string, number | boolean>;
  expect(Number(freedMiB)).toBeGreaterThan(10);
  expect(Number(leftMiB)).toBeLessThan(Number(usedMiB) / 2);
  expect(hasCollector).toBe(false);
});
