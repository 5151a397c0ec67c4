// SPDX-License-Identifier: Apache-2.0
// Reads pages of Prometheus metrics: sums over labels, and quantiles of the observations that a histogram gained between two pages.
// Pure; cluster.ts and proxies.ts use it.

interface Line {
  readonly name: string;
  readonly labels: string;
  readonly value: number;
}

export class Page {
  readonly #lines: readonly Line[];

  constructor(text: string) {
    this.#lines = text.split('\n').flatMap((line) => {
      const [, name = '', labels = '', value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
      return value === undefined ? [] : [{ name, labels, value: Number(value) }];
    });
  }

  /** The sum of all samples with the name and, if given, the label (`ip_family="IPv4"`). 0 if there is no such sample. */
  sum(name: string, label = ''): number {
    return this.#lines.filter((line) => line.name === name && line.labels.includes(label)).reduce((sum, { value }) => sum + value, 0);
  }

  /** The cumulative number of observations by upper bound. */
  buckets(name: string): Map<number, number> {
    const found = new Map<number, number>();
    for (const { labels, value } of this.#lines.filter((line) => line.name === `${name}_bucket`)) {
      const bound = Number(/(?:^|,)le="([^"]*)"/.exec(labels)?.[1]?.replace('+Inf', 'Infinity'));
      found.set(bound, (found.get(bound) ?? 0) + value);
    }
    return found;
  }
}

/** The observations of a histogram since an earlier page. */
export function between(before: Page, after: Page, name: string): { count: number; mean: number; quantile: (share: number) => number } {
  const count = after.sum(`${name}_count`) - before.sum(`${name}_count`);
  const mean = (after.sum(`${name}_sum`) - before.sum(`${name}_sum`)) / count;
  const was = before.buckets(name);
  const buckets = [...after.buckets(name)]
    .map(([bound, value]) => ({ bound, seen: value - (was.get(bound) ?? 0) }))
    .toSorted((a, b) => a.bound - b.bound);
  const quantile = (share: number): number => {
    const rank = share * count;
    const at = buckets.findIndex(({ seen }) => seen >= rank);
    const [low, high] = [buckets[at - 1] ?? { bound: 0, seen: 0 }, buckets[at]];
    if (high === undefined) return NaN;
    // As in Prometheus, observations are assumed to be spread evenly within a bucket. A quantile above the last finite bound is
    // reported as that bound.
    if (high.bound === Infinity) return low.bound;
    return low.bound + ((high.bound - low.bound) * (rank - low.seen)) / (high.seen - low.seen || 1);
  };
  return { count, mean, quantile };
}
