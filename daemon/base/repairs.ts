// SPDX-License-Identifier: Apache-2.0
// Counts and logs the repairs that the agent makes after other programs changed something in the kernel or the bpffs, and keeps the last
// few for the status. The reconcile loops and the guard of the attached programs report the repairs. During a flood of repairs, only the
// first ones are logged, and then the number of the others.
import type { Logger } from 'pino';
import type { Clock } from './clock.ts';

export interface Repair {
  readonly sentence: string;
  /** Wall clock, milliseconds since 1970. */
  readonly at: number;
}

const KEPT = 20;
const LOGGED = 100; // maximum number of repairs in one window that are logged one by one
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
