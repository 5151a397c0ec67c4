// SPDX-License-Identifier: Apache-2.0
// An invalid object does not affect other objects (test/README.md, 14). The test reads 200 mutated Services and EndpointSlices
// together with valid objects, in separate files and in one List. Every valid Service must have the same rows as without the mutated
// objects.
import { describe, expect, test } from 'vitest';
import { dryRun } from '../../../daemon/offline/dry-run.ts';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import { hostSettings } from '../../support/builders.ts';
import { mutant, validService, validSlice } from '../../support/semantics/mutants.ts';
import { temporaryDirectory, writeFiles } from '../source/fixture.ts';

const sound = Array.from({ length: 20 }, (_, n) => [validService(`sound-${n}`, [96, 0, n + 1]), validSlice(`sound-${n}`, n + 1)]).flat();

const mutants = (seed: number): unknown[] =>
  Array.from({ length: 200 }, (_, n) => {
    const object = n % 2 === 0 ? validService(`bad-${n}`, [97, seed, n + 1]) : validSlice(`bad-${n - 1}`, n + 1);
    return mutant(object, 1000 * seed + n);
  });

function rowsOf(objects: readonly unknown[], isOneFile: boolean): { rows: DesiredPort[]; problems: readonly string[] } {
  const directory = temporaryDirectory();
  const files = isOneFile
    ? { 'all.json': JSON.stringify({ kind: 'List', items: objects }) }
    : Object.fromEntries(objects.map((object, n) => [`${String(n).padStart(4, '0')}.json`, JSON.stringify(object)]));
  writeFiles(directory, {
    ...files,
    'zz-node.json': JSON.stringify({
      kind: 'Node',
      metadata: { name: 'node-1' },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
    }),
  });
  const { ports, problems } = dryRun({ objects: directory, node: { name: 'node-1' }, settings: hostSettings() });
  return { rows: [...ports.values()].filter(({ name }) => name.startsWith('sound-')), problems };
}

describe.for([1, 2, 3])('seed %i', (seed) => {
  // A mutated object precedes and follows every valid object.
  const mixed = mutants(seed).flatMap((bad, n) => (n < sound.length ? [bad, sound[n]] : [bad]));

  test.for([
    { name: 'one file for each object', isOneFile: false },
    { name: 'one List', isOneFile: true },
  ])('$name', ({ isOneFile }) => {
    const alone = rowsOf(sound, isOneFile);
    expect(alone.problems).toEqual([]);
    expect(alone.rows).toHaveLength(80);
    const { rows, problems } = rowsOf(mixed, isOneFile);
    expect(rows).toEqual(alone.rows);
    // Most mutated objects are invalid. Invalid objects are reported.
    expect(problems.length).toBeGreaterThan(100);
    for (const problem of problems) expect(problem.length).toBeLessThan(400);
  });
});
