// SPDX-License-Identifier: Apache-2.0
// What was freed is not handed out at once: a program that loaded the old run or id a moment ago may still follow it. The
// grace period is the same for all, so the queue is in order of time. No timer: whoever allocates calls releaseDue() first.
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

  /** Calls `release` in the first releaseDue() after the grace period. */
  hold(release: () => void): void {
    this.#waiting.push({ due: this.#clock.now() + this.#graceMs, release });
  }

  /** Grows with every release. */
  get released(): number {
    return this.#released;
  }

  /** When the next release falls due; undefined when nothing waits. */
  get nextDue(): number | undefined {
    return this.#waiting[0]?.due;
  }

  releaseDue(): void {
    const now = this.#clock.now();
    if ((this.nextDue ?? Infinity) > now) return;
    const kept = this.#waiting.findIndex((item) => item.due > now);
    const due = this.#waiting.splice(0, kept === -1 ? this.#waiting.length : kept);
    for (const item of due) item.release();
    this.#released += due.length;
  }
}
