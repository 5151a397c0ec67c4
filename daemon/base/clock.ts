// SPDX-License-Identifier: Apache-2.0
// Time as an argument: code that waits or measures takes a Clock, so that tests can advance it. Only agent/, offline/ and
// main.ts pass the system's clock; model/ and services/desired/ are pure and take no clock.

export interface Clock {
  /** Milliseconds, monotonic, from an arbitrary start. */
  now(): number;
  /** Runs the task once after at least `ms`. The returned function cancels it; cancelling too late does nothing. */
  setTimer(ms: number, task: () => void): () => void;
}

/** The machine's monotonic clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(ms, task) {
    const timer = setTimeout(task, ms);
    return () => clearTimeout(timer);
  },
};
