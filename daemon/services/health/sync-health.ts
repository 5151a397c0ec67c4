// SPDX-License-Identifier: Apache-2.0
// How far behind the datapath is, by family (kube-proxy-semantics.md, 12): the time of the last successful sync, and since
// when a change waits. Written by sync-feed.ts, read by the health servers and the metrics. Ages are told by the monotonic
// clock, so that a step of the wall clock makes nothing unhealthy; what people read is wall time.
import { families, type Family } from '../../model/address.ts';

export interface FamilySync {
  /** Wall clock, ms since 1970; undefined before the first. */
  readonly lastUpdated: number | undefined;
  readonly lastQueued: number | undefined;
  /** No change has waited too long. Start-up counts as healthy. */
  readonly isHealthy: boolean;
}

export interface SyncHealthOptions {
  /** How long a change may wait. kube-proxy: twice its sync period. */
  readonly timeoutMs?: number;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
}

interface State {
  lastUpdated?: number;
  lastQueued?: number;
  /** Clock time. */
  oldestPending?: number;
}

export class SyncHealth {
  readonly #timeoutMs: number;
  readonly #wallNow: () => number;
  readonly #states: Readonly<Record<Family, State>> = { IPv4: {}, IPv6: {} };

  constructor({ timeoutMs = 60_000, wallNow = Date.now }: SyncHealthOptions = {}) {
    this.#timeoutMs = timeoutMs;
    this.#wallNow = wallNow;
  }

  /** A change that the datapath does not have yet; `at` in clock time. */
  queued(family: Family, at: number): void {
    const state = this.#states[family];
    state.oldestPending ??= at;
    state.lastQueued = this.#wallNow();
  }

  /** A sync has succeeded that holds everything queued up to `at`, in clock time. */
  synced(family: Family, at: number): void {
    const state = this.#states[family];
    if ((state.oldestPending ?? Infinity) <= at) delete state.oldestPending;
    state.lastUpdated = this.#wallNow();
  }

  /** `now` in clock time. */
  status(family: Family, now: number): FamilySync {
    const { lastUpdated, lastQueued, oldestPending } = this.#states[family];
    const isLate = oldestPending !== undefined && now - oldestPending >= this.#timeoutMs;
    return { lastUpdated, lastQueued, isHealthy: lastUpdated === undefined || !isLate };
  }

  /** All families are. */
  isHealthy(now: number): boolean {
    return families.every((family) => this.status(family, now).isHealthy);
  }
}
