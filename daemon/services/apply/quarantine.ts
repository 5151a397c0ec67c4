// SPDX-License-Identifier: Apache-2.0
// Delays the reuse of freed ids and slots: a BPF program that has just loaded the old run or id may still use it. The grace
// period is the same for all items, so the queue is ordered by time. It sets no timer: callers call releaseDue() before they
// allocate. Used by lb-state.ts.
import type { Clock } from '../../base/clock.ts';

export class Quarantine {
  readonly #clock: Clock;
  readonly #graceMs: number;
  #waiting: { due: number; release: () => void }[] = [];
  #released = 0;

  constructor(clock: Clock, graceMs: number) {
    this.#clock = clock;
    this.#graceMs = graceMs;
  }

  /** `release` is called by the first releaseDue() after the grace period. */
  hold(release: () => void): void {
    this.#waiting.push({ due: this.#clock.now() + this.#graceMs, release });
  }

  /** Number of releases so far. */
  get released(): number {
    return this.#released;
  }

  /** Clock time of the next release; undefined if the queue is empty. */
  get nextDue(): number | undefined {
    return this.#waiting[0]?.due;
  }

  /** Releases every item whose grace period has ended. */
  releaseDue(): void {
    const now = this.#clock.now();
    if ((this.nextDue ?? Infinity) > now) return;
    const kept = this.#waiting.findIndex((item) => item.due > now);
    const due = this.#waiting.splice(0, kept === -1 ? this.#waiting.length : kept);
    for (const item of due) item.release();
    this.#released += due.length;
  }
}
