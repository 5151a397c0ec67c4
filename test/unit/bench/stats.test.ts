// SPDX-License-Identifier: Apache-2.0
// The verdicts of the benchmark and its rule for regressions, for goals "at most" and "at least".
import { expect, test } from 'vitest';
import { interval, isRegression, verdict } from '../../bench/stats.ts';

const between = (low: number, high: number) => ({ low, median: (low + high) / 2, high });

test.for([
  { side: 'atMost', low: 0.9, high: 1.1, want: 'met' },
  { side: 'atMost', low: 1, high: 1.2, want: 'undecided' },
  { side: 'atMost', low: 1.11, high: 1.2, want: 'missed' },
  { side: 'atLeast', low: 1.1, high: 1.2, want: 'met' },
  { side: 'atLeast', low: 1, high: 1.2, want: 'undecided' },
  { side: 'atLeast', low: 0.9, high: 1.09, want: 'missed' },
] as const)('the ratio from $low to $high, which must be $side 1.1, is $want', ({ side, low, high, want }) => {
  expect(verdict(between(low, high), { limit: 1.1, side })).toBe(want);
});

test.for([
  { what: 'overlapping intervals', side: 'atMost', after: between(1.05, 1.5), want: false },
  { what: 'slightly more', side: 'atMost', after: between(1.06, 1.08), want: false },
  { what: 'much more', side: 'atMost', after: between(1.15, 1.25), want: true },
  { what: 'much less', side: 'atMost', after: between(0.5, 0.6), want: false },
  { what: 'much less, where more is better', side: 'atLeast', after: between(0.5, 0.6), want: true },
  { what: 'much more, where more is better', side: 'atLeast', after: between(1.15, 1.25), want: false },
] as const)('a change to $what, compared with 0.95 to 1.05, is a regression: $want', ({ side, after, want }) => {
  expect(isRegression(between(0.95, 1.05), after, side)).toBe(want);
});

test('the interval of a median contains the median and is reproducible', () => {
  const values = [1, 1.2, 0.9, 1.1, 5, 1.05, 0.98];
  const found = interval(values);
  expect(found.median).toBe(1.05);
  expect(found.low).toBeLessThanOrEqual(found.median);
  expect(found.high).toBeGreaterThanOrEqual(found.median);
  expect(interval(values)).toEqual(found);
});
