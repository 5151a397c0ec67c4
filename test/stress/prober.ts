// SPDX-License-Identifier: Apache-2.0
// Asks a health address for /healthz over a new connection every 50 ms, and measures the time until the whole answer has come. A line
// on stdin ends it; it then prints its result as one line of JSON. Arguments: host and port. abuse.ts starts it as a process of its
// own, so that the work of the test does not count as delay.
import { get } from 'node:http';
import { createInterface } from 'node:readline';

const INTERVAL_MS = 50;
const TIMEOUT_MS = 10_000;

export interface Probes {
  /** Milliseconds of each probe that was answered with status 200. */
  readonly latencies: readonly number[];
  /** Number of failed probes by reason. */
  readonly failures: Readonly<Record<string, number>>;
}

const [host = '', port = ''] = process.argv.slice(2);
const latencies: number[] = [];
const failures: Record<string, number> = {};
const fail = (reason: string): void => void (failures[reason] = (failures[reason] ?? 0) + 1);

function probe(): void {
  const began = performance.now();
  const request = get({ host, port, path: '/healthz', agent: false, timeout: TIMEOUT_MS }, (response) => {
    response.resume().on('end', () => {
      if (response.statusCode === 200) latencies.push(performance.now() - began);
      else fail(`status ${response.statusCode}`);
    });
    response.on('error', (error) => fail(error.message));
  });
  request.on('timeout', () => request.destroy(new Error('timeout')));
  request.on('error', (error) => fail(error.message));
}

const timer = setInterval(probe, INTERVAL_MS);
process.stdout.write('ready\n');
createInterface({ input: process.stdin }).once('line', () => {
  clearInterval(timer);
  process.stdout.write(`${JSON.stringify({ latencies, failures } satisfies Probes)}\n`);
});
