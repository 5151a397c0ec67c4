// SPDX-License-Identifier: Apache-2.0
// The bench's arithmetic: medians, the 95 % interval of a median of ratios by bootstrap, and the verdict against a goal
// (design.md, 6): met when the upper end meets it, missed when the lower end exceeds it, else undecided.

export interface Interval {
  readonly low: number;
  readonly median: number;
  readonly high: number;
}

/** Which side of its limit a goal is on. */
export type Side = 'atMost' | 'atLeast';
export type Verdict = 'met' | 'missed' | 'undecided';

const RESAMPLES = 2000;

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? NaN) : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

/** `random` gives 0 <= x < 1; a seeded one makes the interval reproducible. */
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

/** Two runs of one row: worse when the intervals do not overlap and the median moved the wrong way by more than a tenth. */
export function isRegression(before: Interval, after: Interval, side: Side): boolean {
  if (side === 'atLeast') return after.high < before.low && after.median < before.median * 0.9;
  return after.low > before.high && after.median > before.median * 1.1;
}

/** mulberry32: small, and the same everywhere. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
