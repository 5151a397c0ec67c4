// SPDX-License-Identifier: Apache-2.0
// Exponential back-off: the delay before the next try doubles from a first value to a limit, with optional jitter, which
// spreads the retries of many nodes. Pure except for the random numbers that the caller provides. Every delay or time limit
// of the daemon that grows after failures is computed here.

export interface DelayLimits {
  /** The delay after the first failure. */
  readonly firstMs: number;
  /** The longest delay. */
  readonly mostMs: number;
}

export interface BackOffLimits extends DelayLimits {
  /** Share of the delay that is random, 0..1. With 0.5, the delay is between one half and all of the doubled value. */
  readonly jitter: number;
}

/** Delay in ms after this number of failures in a row (>= 1). */
export const doubledMs = (failures: number, { firstMs, mostMs }: DelayLimits): number => Math.min(mostMs, firstMs * 2 ** (failures - 1));

/** Delay in ms after this number of failures in a row (>= 1), with jitter. `random` returns numbers in [0, 1). */
export const backOffMs = (failures: number, limits: BackOffLimits, random: () => number): number =>
  doubledMs(failures, limits) * (1 - limits.jitter + limits.jitter * random());

/** Counts failures per cause, so that a long outage does not delay the retry after a failure of another cause. */
export class BackOff {
  readonly #random: () => number;
  readonly #failures = new Map<string, number>();

  /** `random` returns numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** Counts a failure. Returns the delay in ms before the next try. */
  next(cause: string, limits: BackOffLimits): number {
    const failures = (this.#failures.get(cause) ?? 0) + 1;
    this.#failures.set(cause, failures);
    return backOffMs(failures, limits, this.#random);
  }

  reset(): void {
    this.#failures.clear();
  }
}
