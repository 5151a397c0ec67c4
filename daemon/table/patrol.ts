// SPDX-License-Identifier: Apache-2.0
// The periodic comparison of everything that was applied with the content of the kernel. The class stores when the next comparison is due
// and how far the current comparison has come, and runs a bounded number of steps at a time. Only the Reconciler uses it; time is an
// argument.

/** The steps of one comparison. Each step returns one message for each repair. */
export type Walk = () => Iterator<readonly string[], void>;

export class Patrol {
  readonly #walk: Walk;
  readonly #periodMs: number;
  #current: Iterator<readonly string[], void> | undefined;
  #due = Infinity;

  constructor(walk: Walk, periodMs: number) {
    this.#walk = walk;
    this.#periodMs = periodMs;
  }

  /** Time at which the next step is due; Infinity before schedule(). */
  get due(): number {
    return this.#due;
  }

  /** Schedules a comparison one period from now, and abandons a comparison that is in progress. */
  schedule(now: number): void {
    this.#current = undefined;
    this.#due = now + this.#periodMs;
  }

  /**
   * Runs up to `limit` steps if they are due, until the time is over, and adds their messages to `repaired`. Throws what a step throws;
   * the caller must then call schedule().
   */
  take({ now, limit, isOver }: { now: number; limit: number; isOver: () => boolean }, repaired: string[]): void {
    if (this.#due > now) return;
    this.#current ??= this.#walk();
    for (let step = 0; step < limit && (step === 0 || !isOver()); step += 1) {
      const result = this.#current.next();
      if (result.done === true) {
        this.schedule(now);
        break;
      }
      repaired.push(...result.value);
    }
  }
}
