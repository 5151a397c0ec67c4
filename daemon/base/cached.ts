// SPDX-License-Identifier: Apache-2.0
// Limits how often an expensive computation runs, however many callers ask. Simultaneous callers share one computation, and its result
// is used again for a bounded time. It must never return a result that is older than this time. Used for answers to requests that
// anybody may send, such as /metrics.
import type { Clock } from './clock.ts';

export interface CachedOptions {
  /** Time for which a result is used again, counted from the end of its computation. */
  readonly ms: number;
  readonly clock: Pick<Clock, 'now'>;
}

/**
 * Returns a function with the same result as `compute`. If the result is a promise, a rejection is also shared and kept. If
 * `compute` throws, the error is not kept, and the next call computes again.
 */
export function cached<T>(compute: () => T, { ms, clock }: CachedOptions): () => T {
  let last: { readonly result: T; expires: number } | undefined;
  return () => {
    if (last !== undefined && clock.now() < last.expires) return last.result;
    const result = compute();
    const entry = { result, expires: clock.now() + ms };
    if (result instanceof Promise) {
      entry.expires = Infinity;
      const settle = (): void => void (entry.expires = clock.now() + ms);
      result.then(settle, settle);
    }
    last = entry;
    return result;
  };
}
