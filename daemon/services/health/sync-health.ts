// SPDX-License-Identifier: Apache-2.0
// The sync state of the datapath by family (test/README.md, 12): the time of the last successful sync and the age of the
// oldest waiting change. Ages use the monotonic clock, so that a step of the wall clock does not make the proxy unhealthy; reported
// times are wall times. Written by sync-feed.ts, read by the health servers and the metrics.
import { families, type Family } from '../../model/address.ts';

export interface FamilySync {
  /** Wall clock, ms since 1970; undefined before the first sync. */
  readonly lastUpdated: number | undefined;
  /** Wall clock, ms since 1970; undefined before the first change. */
  readonly lastQueued: number | undefined;
  /** False if a change has waited longer than the timeout. Before the first sync it is always true. */
  readonly isHealthy: boolean;
}

export interface SyncHealthOptions {
  /** Maximum age of a waiting change. Default: 60 s, twice kube-proxy's default sync period. */
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

  /** Records a change that has waited for the datapath since `at`, a clock time. */
  queued(family: Family, at: number): void {
    const state = this.#states[family];
    state.oldestPending ??= at;
    state.lastQueued = this.#wallNow();
  }

  /** Records a successful sync. It includes every change that was queued up to `at`, a clock time. */
  synced(family: Family, at: number): void {
    const state = this.#states[family];
    if ((state.oldestPending ?? Infinity) <= at) delete state.oldestPending;
    state.lastUpdated = this.#wallNow();
  }

  /** The state of a family. `now` is a clock time. */
  status(family: Family, now: number): FamilySync {
    const { lastUpdated, lastQueued, oldestPending } = this.#states[family];
    const isLate = oldestPending !== undefined && now - oldestPending >= this.#timeoutMs;
    return { lastUpdated, lastQueued, isHealthy: lastUpdated === undefined || !isLate };
  }

  /** True if all families are healthy. */
  isHealthy(now: number): boolean {
    return families.every((family) => this.status(family, now).isHealthy);
  }
}
