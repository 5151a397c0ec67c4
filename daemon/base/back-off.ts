// SPDX-License-Identifier: Apache-2.0
// How long to wait before the next try: doubling from a first delay to a limit for each kind of failure, with jitter, so that
// the nodes of a cluster do not come back as one. Pure but for the random numbers it is given.

interface Delays {
  readonly firstMs: number;
  readonly mostMs: number;
}

export class Backoff {
  readonly #random: () => number;
  /** By kind: a long outage must not slow down what comes after it. */
  readonly #failures = new Map<string, number>();

  /** `random` gives numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Milliseconds until the next try: between half and all of the doubled delay. */
  next(kind: string, { firstMs, mostMs }: Delays): number {
    const failures = this.#failures.get(kind) ?? 0;
    this.#failures.set(kind, failures + 1);
    return Math.min(mostMs, firstMs * 2 ** failures) * (0.5 + this.#random() / 2);
  }

  reset(): void {
    this.#failures.clear();
  }
}
