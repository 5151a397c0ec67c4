// SPDX-License-Identifier: Apache-2.0
// Exponential back-off: the delays, their limits and their jitter.
import { describe, expect, test } from 'vitest';
import { BackOff, backOffMs, doubledMs } from '../../../daemon/base/back-off.ts';
import { seededRandom } from '../../support/fake-clock.ts';

const limits = { firstMs: 100, mostMs: 1000, jitter: 0.5 };
const failures = [1, 2, 3, 4, 5, 6];

test('a delay doubles up to its limit, and stays at the limit after very many failures', () => {
  expect(failures.map((count) => doubledMs(count, limits))).toEqual([100, 200, 400, 800, 1000, 1000]);
  expect(doubledMs(10_000, limits)).toBe(1000);
});

describe('jitter', () => {
  test.for([
    { jitter: 0.5, random: 1, want: [100, 200, 400, 800, 1000, 1000] },
    { jitter: 0.5, random: 0, want: [50, 100, 200, 400, 500, 500] },
    { jitter: 0, random: 0, want: [100, 200, 400, 800, 1000, 1000] },
    { jitter: 1, random: 0, want: [0, 0, 0, 0, 0, 0] },
  ])('a jitter of $jitter with the random number $random gives the delays $want', ({ jitter, random, want }) => {
    expect(failures.map((count) => backOffMs(count, { ...limits, jitter }, () => random))).toEqual(want);
  });

  test('a jitter of 0.5 spreads delays evenly over their upper half', () => {
    const random = seededRandom(1);
    const delays = Array.from({ length: 4000 }, () => backOffMs(9, limits, random));
    const buckets = Map.groupBy(delays, (delay) => Math.floor((delay - 500) / 100));
    expect(new Set(buckets.keys())).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(Math.min(...[...buckets.values()].map(({ length }) => length))).toBeGreaterThan(700);
  });
});

test('failures are counted per cause, and reset() forgets all of them', () => {
  const backOff = new BackOff(() => 1);
  for (let i = 0; i < 10_000; i += 1) backOff.next('a', limits);
  expect([backOff.next('a', limits), backOff.next('b', limits), backOff.next('b', limits)]).toEqual([1000, 100, 200]);
  backOff.reset();
  expect([backOff.next('a', limits), backOff.next('b', limits)]).toEqual([100, 100]);
});
