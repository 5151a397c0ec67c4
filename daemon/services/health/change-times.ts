// SPDX-License-Identifier: Apache-2.0
// Measures the time from an endpoint change in the cluster, according to its EndpointSlice, until the datapath has applied it:
// the values of network_programming_duration_seconds (test/README.md, 16). It reads no clock. Called by sync-feed.ts.
import type { Family } from '../../model/address.ts';

/** The fields of an EndpointSlice row that are used here. */
export interface TimedSlice {
  readonly family: Family;
  /** Annotation endpoints.kubernetes.io/last-change-trigger-time in ms since 1970; absent if the slice does not have it. */
  readonly lastChangeTrigger?: number;
}

export class ChangeTimes {
  readonly #since: number;
  readonly #last = new Map<string, number>();
  readonly #waiting: Readonly<Record<Family, Map<string, number>>> = { IPv4: new Map(), IPv6: new Map() };

  /** Changes before `since` are not measured, because their duration would include time before this process started. */
  constructor(since: number) {
    this.#since = since;
  }

  /**
   * Records that a row was added or changed, or deleted if `slice` is undefined. A deletion has no timestamp and is not measured.
   * It also cancels the waiting change of the slice.
   */
  changed(key: string, slice: TimedSlice | undefined): void {
    if (slice === undefined) {
      this.#last.delete(key);
      for (const waiting of Object.values(this.#waiting)) waiting.delete(key);
      return;
    }
    const { family, lastChangeTrigger: at } = slice;
    if (at === undefined || at <= this.#since || this.#last.get(key) === at) return;
    this.#last.set(key, at);
    // If one sync applies several changes of a slice, the oldest one is measured.
    if (!this.#waiting[family].has(key)) this.#waiting[family].set(key, at);
  }

  /**
   * Seconds from each waiting change to `now`. The minimum is 0, because the clock of the control plane may be ahead of the node's
   * clock.
   */
  take(family: Family, now: number): number[] {
    const seconds = [...this.#waiting[family].values()].map((at) => Math.max(0, (now - at) / 1000));
    this.#waiting[family].clear();
    return seconds;
  }

  /** Drops the waiting changes, because the caller found that they changed no desired row. */
  forget(family: Family): void {
    this.#waiting[family].clear();
  }
}
