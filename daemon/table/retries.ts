// SPDX-License-Identifier: Apache-2.0
// Decides when a failed row is tried again: exponential back-off with jitter, 1 s to 60 s. Only the Reconciler uses it; time and random
// numbers are arguments.
import { backOffMs } from '../base/back-off.ts';

const limits = { firstMs: 2000, mostMs: 60_000, jitter: 0.5 };

/** Delay before the next try after `failures` (>= 1) consecutive failures: between 1 and 2 s at first, between 30 and 60 s at last. */
export const backOff = (failures: number, random: () => number): number => backOffMs(failures, limits, random);

export class Retries<K> {
  readonly #due = new Map<K, number>();
  #next = Infinity;

  /** Number of rows that wait for their next attempt. */
  get size(): number {
    return this.#due.size;
  }

  /** No row is due before this time; Infinity when no row waits. */
  get nextDue(): number {
    return this.#next;
  }

  set(key: K, due: number): void {
    this.#due.set(key, due);
    this.#next = Math.min(this.#next, due);
  }

  delete(key: K): void {
    this.#due.delete(key);
    if (this.#due.size === 0) this.#next = Infinity;
  }

  /** Up to `limit` keys that are due. The caller tries each and calls set() or delete(). */
  due(now: number, limit: number): K[] {
    if (this.#next > now) return [];
    const keys: K[] = [];
    this.#next = Infinity;
    for (const [key, due] of this.#due) {
      if (due <= now && keys.length < limit) keys.push(key);
      else this.#next = Math.min(this.#next, due);
    }
    return keys;
  }

  /** Makes the rows that `isMeant` selects due at `now`. */
  retryNow(now: number, isMeant: (key: K) => boolean): void {
    for (const key of this.#due.keys()) if (isMeant(key)) this.set(key, now);
  }
}
