// SPDX-License-Identifier: Apache-2.0
// Measures the longest time in which a device received no bytes, by reading its counter every few milliseconds inside its namespace.
// Intervals in which this process was not scheduled do not count. A line on stdin prints the result and starts a new measurement.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const EVERY_MS = 4;
const LATE_MS = 20;
const device = process.argv[2] ?? '';

const received = (): number => {
  const line = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .find((each) => each.trim().startsWith(`${device}:`));
  return Number(line?.split(':')[1]?.trim().split(/\s+/)[0]);
};

let longest = 0;
let stalled = 0;
let last = { bytes: received(), at: performance.now() };
setInterval(() => {
  const now = { bytes: received(), at: performance.now() };
  const since = now.at - last.at;
  if (now.bytes !== last.bytes || since > LATE_MS) stalled = 0;
  else stalled += since;
  longest = Math.max(longest, stalled);
  last = now;
}, EVERY_MS);
createInterface({ input: process.stdin }).on('line', () => {
  process.stdout.write(`${JSON.stringify({ longestStallMs: longest })}\n`);
  longest = 0;
});
process.stdout.write('{"ready":true}\n');
