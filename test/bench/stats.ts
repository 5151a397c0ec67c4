// SPDX-License-Identifier: Apache-2.0
// The statistics of the benchmark: medians, the 95 % bootstrap interval of the median ratio, and the verdict. For a goal "at most"
// the verdict is met if the upper end of the interval is within the limit, missed if the lower end is above it, and otherwise
// undecided. Pure; row.ts and report.ts use it.

export interface Interval {
  readonly low: number;
  readonly median: number;
  readonly high: number;
}

/** Whether the limit of a goal is an upper or a lower limit. */
export type Side = 'atMost' | 'atLeast';
export type Verdict = 'met' | 'missed' | 'undecided';

const RESAMPLES = 2000;

/** NaN if there are no values. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** `random` returns a number x with 0 <= x < 1. The default is seeded, so that the interval is reproducible. */
export function interval(values: readonly number[], random: () => number = seeded(1)): Interval {
  const medians = Array.from({ length: RESAMPLES }, () => median(values.map(() => values[Math.floor(random() * values.length)] ?? NaN)));
  medians.sort((a, b) => a - b);
  const at = (share: number): number => medians[Math.floor(share * (RESAMPLES - 1))] ?? NaN;
  return { low: at(0.025), median: median(values), high: at(0.975) };
}

export function verdict(judged: Interval, { limit, side }: { limit: number; side: Side }): Verdict {
  if (side === 'atLeast') return judged.low >= limit ? 'met' : judged.high < limit ? 'missed' : 'undecided';
  if (judged.high <= limit) return 'met';
  return judged.low > limit ? 'missed' : 'undecided';
}

/** Compares two runs of one row: a regression if the intervals do not overlap and the median is worse by more than 10 %. */
export function isRegression(before: Interval, after: Interval, side: Side): boolean {
  if (side === 'atLeast') return after.high < before.low && after.median < before.median * 0.9;
  return after.low > before.high && after.median > before.median * 1.1;
}

/** mulberry32: a small generator with the same results on every platform. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
