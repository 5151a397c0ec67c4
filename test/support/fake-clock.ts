// SPDX-License-Identifier: Apache-2.0
// Time and scheduling under the control of a test: FakeClock stands still until it is advanced, ManualScheduler keeps tasks
// until they are flushed. With both, a whole control plane runs synchronously and a test needs neither sleep nor await.
// They must never read the real time.
import type { Clock } from '../../daemon/base/clock.ts';
import type { Pace } from '../../daemon/base/slices.ts';

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

  /** Clock time of the next timer; undefined if none is set. */
  get nextTimer(): number | undefined {
    return this.#timers.length === 0 ? undefined : Math.min(...this.#timers.map((timer) => timer.due));
  }

  /** Advances the time and runs due timers in order of time, including timers that the tasks set. */
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

  /** Runs the tasks that are scheduled now, but not those that they schedule. Returns their number. */
  round(): number {
    const tasks = this.#tasks.splice(0);
    for (const task of tasks) task();
    return tasks.length;
  }

  /** Runs scheduled tasks, including tasks that they schedule, until none is left. */
  flush(): void {
    for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift()) task();
  }
}

/** A pace whose slices have a number of steps instead of a time. A slice begins when the scheduler is flushed. */
export function countedPace(scheduler: ManualScheduler, stepsPerSlice: number): Pace {
  const begin = (): (() => boolean) => {
    let left = stepsPerSlice;
    return () => {
      left -= 1;
      return left <= 0;
    };
  };
  return { schedule: scheduler.schedule, begin };
}

/** A generator of numbers in [0, 1) that depend only on the seed (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
