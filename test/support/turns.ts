// SPDX-License-Identifier: Apache-2.0
// Measures the turns of the event loop in the CPU time of this thread, so that a machine that is busy with other tests does not change the
// result. It must never use the wall clock.
import { setImmediate as nextRound } from 'node:timers/promises';

/** The longest turn of the event loop in ms of CPU time, until the condition holds. */
export async function longestTurn(isDone: () => boolean): Promise<number> {
  let longest = 0;
  while (!isDone()) {
    const before = process.threadCpuUsage();
    await nextRound();
    const { user, system } = process.threadCpuUsage(before);
    longest = Math.max(longest, user + system);
  }
  return longest / 1000;
}
