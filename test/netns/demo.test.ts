// SPDX-License-Identifier: Apache-2.0
// Runs the demo as a user does. Every check of the demo must hold, and the demo must remove everything that it made, also when
// it is interrupted.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';

interface Run {
  readonly pid: number;
  readonly code: number;
  readonly text: string;
}

/** Runs the demo. Sends the signal as soon as the demo has printed `at`. */
async function demo(interrupt?: { at: string; signal: NodeJS.Signals }): Promise<Run> {
  const child = spawn(process.execPath, ['test/demo/main.ts'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  let isSent = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data: Buffer) => {
      text += data.toString();
      if (interrupt === undefined || isSent || !text.includes(interrupt.at)) return;
      isSent = true;
      child.kill(interrupt.signal);
    });
  }
  const [code] = (await once(child, 'close')) as [number];
  return { pid: child.pid ?? 0, code, text };
}

/** The names of namespaces that the lab of that process has left behind; they begin with "sl<pid>". */
function leftovers(pid: number): string[] {
  const isOurs = (name: string): boolean => new RegExp(`sl${pid}[a-z]`).test(name);
  const netns = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const cgroups = mounts.map((line) => line.split(' ')).filter((fields) => fields[2] === 'cgroup2');
  return [...netns, ...readdirSync(tmpdir()), ...mounts, ...cgroups.flatMap((fields) => readdirSync(fields[1] ?? '/'))].filter(isOurs);
}

test('every check of the demo holds, no message is lost, and nothing is left behind', async () => {
  const { pid, code, text } = await demo();
  expect(text).not.toContain('FAILED CHECK');
  expect(text).toContain('lost in total: 0');
  // The time depends on the load of the machine, so the test only checks that the demo prints it.
  expect(text).toMatch(/first answer from the Service after \d+\.\d s/);
  expect(code).toBe(0);
  expect(leftovers(pid)).toEqual([]);
});

test.for([
  { signal: 'SIGINT', at: 'a node, a client pod', code: 130 },
  { signal: 'SIGTERM', at: 'first answer from the Service', code: 143 },
] as const)('interrupted by $signal, the demo removes everything', async ({ signal, at, code: want }) => {
  const { pid, code } = await demo({ at, signal });
  expect(code).toBe(want);
  expect(leftovers(pid)).toEqual([]);
});
