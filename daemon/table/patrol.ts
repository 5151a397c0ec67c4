// SPDX-License-Identifier: Apache-2.0
// The periodic walk over all that is applied: when it is due, how far it is, and a bounded number of steps at a time. Only the
// Reconciler drives it; time is an argument.

/** Steps of one walk; each gives a sentence for everything that it put back. */
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

  /** When the next step falls due; Infinity before schedule(). */
  get due(): number {
    return this.#due;
  }

  /** A walk begins one period from now. Gives up the one under way. */
  schedule(now: number): void {
    this.#current = undefined;
    this.#due = now + this.#periodMs;
  }

  /** Up to `limit` steps if they are due. Throws what the walk throws; then call schedule(). */
  take(now: number, limit: number): string[] {
    if (this.#due > now) return [];
    this.#current ??= this.#walk();
    const repaired: string[] = [];
    for (let step = 0; step < limit; step += 1) {
      const result = this.#current.next();
      if (result.done === true) {
        this.schedule(now);
        break;
      }
      repaired.push(...result.value);
    }
    return repaired;
  }
}
