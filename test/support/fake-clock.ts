// SPDX-License-Identifier: Apache-2.0
// Time and turns under the test's control: FakeClock stands still until advanced, ManualScheduler keeps tasks until
// flushed. With both, a whole daemon runs synchronously and a test needs neither sleep nor await.
import type { Clock } from '../../daemon/base/clock.ts';

export class FakeClock implements Clock {
  #now = 0;
  #timers: { due: number; task: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  setTimer(ms: number, task: () => void): () => void {
    const timer = { due: this.#now + ms, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** When the next timer falls due; undefined when none is set. */
  get nextTimer(): number | undefined {
    return this.#timers.length === 0 ? undefined : Math.min(...this.#timers.map((timer) => timer.due));
  }

  /** Moves time on and runs what falls due, in order of time; a timer that a task sets counts too. */
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.due <= end).sort((a, b) => a.due - b.due)[0];
      if (next === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#now = Math.max(this.#now, next.due);
      next.task();
    }
    this.#now = end;
  }
}

export class ManualScheduler {
  #tasks: (() => void)[] = [];

  readonly schedule = (task: () => void): void => {
    this.#tasks.push(task);
  };

  /** Runs what is scheduled, and what that schedules, until nothing is left. */
  flush(): void {
    for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift()) task();
  }
}

/** Numbers in [0, 1) that depend on the seed only (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
