// SPDX-License-Identifier: Apache-2.0
// Counts and logs the repairs that the agent makes after other programs changed something in the kernel or the bpffs, and keeps the last
// few for the status. The reconcile loops and the guard of the attached programs report the repairs. During a flood of repairs, only the
// first ones are logged, and then the number of the others.
import type { Logger } from 'pino';
import type { Clock } from './clock.ts';
import { limitedLog } from './limited-log.ts';

export interface Repair {
  readonly sentence: string;
  /** Wall clock, milliseconds since 1970. */
  readonly at: number;
}

const KEPT = 20;

export class Repairs {
  readonly #log: (sentence: string) => void;
  readonly #last: Repair[] = [];
  #total = 0;

  constructor(log: Logger, clock: Clock) {
    this.#log = limitedLog<[string]>(clock, {
      write: (sentence) => log.warn(`repaired: ${sentence}`),
      leftOut: (notLogged) => log.warn({ notLogged }, 'further repairs were made but not logged'),
    });
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
    this.#log(sentence);
  }
}
