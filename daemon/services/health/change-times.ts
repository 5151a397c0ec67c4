// SPDX-License-Identifier: Apache-2.0
// When endpoints changed in the cluster, as their slices say, until the datapath has caught up: the measure behind
// network_programming_duration_seconds (kube-proxy-semantics.md, 16). Pure; fed by sync-feed.ts.
import type { Family } from '../../model/address.ts';

/** An EndpointSlice row, as far as it matters here. */
export interface TimedSlice {
  readonly family: Family;
  /** Annotation endpoints.kubernetes.io/last-change-trigger-time in ms since 1970; absent when the slice does not say. */
  readonly lastChangeTrigger?: number;
}

export class ChangeTimes {
  readonly #since: number;
  readonly #last = new Map<string, number>();
  readonly #waiting: Readonly<Record<Family, Map<string, number>>> = { IPv4: new Map(), IPv6: new Map() };

  /** Changes before `since` are not measured: they waited for us to start. */
  constructor(since: number) {
    this.#since = since;
  }

  /** A row came or changed, or went: a deletion says no time of its own, and what it undid is not measured either. */
  changed(key: string, slice: TimedSlice | undefined): void {
    if (slice === undefined) {
      this.#last.delete(key);
      for (const waiting of Object.values(this.#waiting)) waiting.delete(key);
      return;
    }
    const { family, lastChangeTrigger: at } = slice;
    if (at === undefined || at <= this.#since || this.#last.get(key) === at) return;
    this.#last.set(key, at);
    // The oldest of several changes that one sync brings into effect is the one that waited.
    if (!this.#waiting[family].has(key)) this.#waiting[family].set(key, at);
  }

  /** Seconds from each waiting change to now, never below 0: the control plane's clock may be ahead of ours. */
  take(family: Family, now: number): number[] {
    const seconds = [...this.#waiting[family].values()].map((at) => Math.max(0, (now - at) / 1000));
    this.#waiting[family].clear();
    return seconds;
  }

  /** The waiting changes turned out to be of no consequence. */
  forget(family: Family): void {
    this.#waiting[family].clear();
  }
}
