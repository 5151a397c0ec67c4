// SPDX-License-Identifier: Apache-2.0
// The result of a benchmark row, computed from its rounds. A round without a figure does not count, and a row without any figures has
// no verdict.
import { expect, test } from 'vitest';
import { table } from '../../bench/report.ts';
import { NOT_SEEN, resultOf, type Row } from '../../bench/row.ts';

const row: Row = { name: 'connect', yardstick: 'direct', unit: 'us', goal: { of: 'ratio', limit: 1.1, side: 'atMost' } };

test('a round that lacks one of the two figures does not count', () => {
  const samples = [
    { ours: 10, theirs: 10 },
    { ours: NaN, theirs: 10 },
    { ours: 12, theirs: 10 },
    { ours: 11, theirs: 10 },
  ];
  expect(resultOf(row, samples)).toMatchObject({ ours: 11, theirs: 10, ratio: { median: 1.1 }, verdict: 'undecided' });
});

test('a row that is missing in most rounds has no verdict and empty cells', () => {
  const missing = { ours: NaN, theirs: NaN };
  const result = resultOf(row, [{ ours: 10, theirs: 10 }, missing, missing]);
  expect(result.verdict).toBe(NOT_SEEN);
  expect(table([resultOf(row, [missing, missing])])).toContain('| connect | direct | us |  |  |  | <= 1.1 | not seen |  |');
});

test('the figure of the third system is divided by its own yardstick if it has one, and otherwise by the common yardstick', () => {
  const samples = [{ ours: 10, theirs: 10, peer: 30, peerTheirs: 20 }];
  expect(resultOf(row, samples).peer).toEqual({ value: 30, ratio: 1.5 });
  expect(resultOf(row, [{ ours: 10, theirs: 10, peer: 30 }]).peer).toEqual({ value: 30, ratio: 3 });
});
