// SPDX-License-Identifier: Apache-2.0
// The periodic walk that compares everything applied with the kernel: when it is due, how far it has come, a bounded number of
// steps at a time. Only the Reconciler drives it; time is an argument.

/** Steps of one walk; each returns a message for everything that it repaired. */
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

  /** When the next step is due; Infinity before schedule(). */
  get due(): number {
    return this.#due;
  }

  /** Begins a walk one period from now, and abandons the one under way. */
  schedule(now: number): void {
    this.#current = undefined;
    this.#due = now + this.#periodMs;
  }

  /** Runs up to `limit` steps if they are due. Throws what the walk throws; then call schedule(). */
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
