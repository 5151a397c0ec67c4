// SPDX-License-Identifier: Apache-2.0
// Time as an argument: whoever waits or measures takes a Clock, so that tests can advance it. Only the files that build the
// parts (main.ts, agent.ts and the like) pass the system's; pure rooms (model/, desired/) take none at all.

export interface Clock {
  /** Milliseconds, monotonic, from an arbitrary start. */
  now(): number;
  /** Runs the task once after at least `ms`. The returned call cancels it; cancelling late does nothing. */
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
