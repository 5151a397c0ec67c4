// SPDX-License-Identifier: Apache-2.0
// Repairs of what other programs changed in the kernel or the bpffs: they are counted and logged, and the last few are kept for
// the status. The guard and the loops report them. During a flood of repairs, only the first ones are logged, then their number.
import type { Logger } from 'pino';
import type { Clock } from './clock.ts';

export interface Repair {
  readonly sentence: string;
  /** Wall clock, milliseconds since 1970. */
  readonly at: number;
}

const KEPT = 20;
const LOGGED = 100; // repairs in one window that are logged one by one
const WINDOW_MS = 10_000;

export class Repairs {
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #last: Repair[] = [];
  #total = 0;
  #inWindow = 0;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Number of repairs since the daemon started. */
  get total(): number {
    return this.#total;
  }

  /** The last repairs, the newest first. */
  last(): readonly Repair[] {
    return this.#last.toReversed();
  }

  add(sentence: string): void {
    this.#total += 1;
    this.#last.push({ sentence, at: Date.now() });
    if (this.#last.length > KEPT) this.#last.shift();
    this.#inWindow += 1;
    if (this.#inWindow === 1) this.#clock.setTimer(WINDOW_MS, () => this.#closeWindow());
    if (this.#inWindow <= LOGGED) this.#log.warn(`repaired: ${sentence}`);
  }

  #closeWindow(): void {
    if (this.#inWindow > LOGGED) this.#log.warn({ notLogged: this.#inWindow - LOGGED }, 'further repairs were made but not logged');
    this.#inWindow = 0;
  }
}
