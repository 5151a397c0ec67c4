// SPDX-License-Identifier: Apache-2.0
// CPU time and memory of any process of this machine, as the kernel counts them. Reads only /proc. cluster.ts, proxies.ts,
// witness.ts and the memory row use it.
import { readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100;
const FIRST = 3; // number, as in proc_pid_stat(5), of the first field after the name

/** User and system time, including that of children that the process has waited for. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name in parentheses may contain any character, so the fields are counted from its end.
  const fields = stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number);
  const [user, system, childUser, childSystem] = [14, 15, 16, 17].map((field) => fields[field - FIRST] ?? NaN);
  return ((user ?? NaN) + (system ?? NaN) + (childUser ?? NaN) + (childSystem ?? NaN)) / TICKS_PER_SECOND;
}

export const rssMiB = (pid: number): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;

const STEADY_MIB = 0.3;
const LOOK_EVERY_MS = 1000;
const MOST_LOOKS = 15;

/** RSS in MiB once it no longer changes. */
export async function steadyRssMiB(pid: number): Promise<number> {
  let last = rssMiB(pid);
  for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    const now = rssMiB(pid);
    if (Math.abs(now - last) < STEADY_MIB) return now;
    last = now;
  }
  return last;
}
