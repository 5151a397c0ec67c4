// SPDX-License-Identifier: Apache-2.0
// Asks a health address for /healthz over a new connection every 50 ms, and measures the time until the whole answer has come. A line
// on stdin ends it; it then prints its result as one line of JSON. Arguments: host, port and the process id of the daemon. With the
// fourth argument "metrics" it also reads the delay of the event loop from /metrics. abuse.ts starts it as a process of its own, so that
// the work of the test does not count as delay.
import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { createInterface } from 'node:readline';

const INTERVAL_MS = 50;
const TIMEOUT_MS = 10_000;
/** The metric covers the current minute and the one before. */
const METRICS_EVERY_MS = 20_000;

export interface Probes {
  /** Milliseconds of each probe that was answered with status 200. */
  readonly latencies: readonly number[];
  /** The same without the time in which the daemon or the prober was ready to run and other processes had its CPU. */
  readonly ofDaemon: readonly number[];
  /** Number of failed probes by reason. */
  readonly failures: Readonly<Record<string, number>>;
  /** Delay of the event loop in seconds by quantile, the largest value of each. */
  readonly loop: Readonly<Record<string, number>>;
}

const [host = '', port = '', pid = '', what = ''] = process.argv.slice(2);
const loop: Record<string, number> = {};
const latencies: number[] = [];
const ofDaemon: number[] = [];
/** Milliseconds for which the main threads of both processes have waited for a CPU: the second number of schedstat, in ns. */
const waitedMs = (): number =>
  [pid, 'self'].reduce((sum, id) => sum + Number(readFileSync(`/proc/${id}/schedstat`, 'utf8').split(' ')[1]) / 1e6, 0);
const failures: Record<string, number> = {};
const fail = (reason: string): void => void (failures[reason] = (failures[reason] ?? 0) + 1);

function probe(): void {
  const began = performance.now();
  const waitedBefore = waitedMs();
  const request = get({ host, port, path: '/healthz', agent: false, timeout: TIMEOUT_MS }, (response) => {
    response.resume().on('end', () => {
      if (response.statusCode !== 200) return fail(`status ${response.statusCode}`);
      const latency = performance.now() - began;
      latencies.push(latency);
      ofDaemon.push(Math.max(0, latency - (waitedMs() - waitedBefore)));
    });
    response.on('error', (error) => fail(error.message));
  });
  request.on('timeout', () => request.destroy(new Error('timeout')));
  request.on('error', (error) => fail(error.message));
}

function readLoop(): void {
  const request = get({ host, port, path: '/metrics', agent: false, timeout: TIMEOUT_MS }, (response) => {
    let text = '';
    response.setEncoding('utf8').on('data', (part: string) => (text += part));
    response
      .on('error', () => undefined)
      .on('end', () => {
        for (const [, quantile = '', seconds] of text.matchAll(/^sluice_event_loop_delay_seconds\{quantile="([^"]*)"\} (\S+)$/gm))
          loop[quantile] = Math.max(loop[quantile] ?? 0, Number(seconds));
      });
  });
  request.on('timeout', () => request.destroy());
  request.on('error', () => undefined);
}

const timer = setInterval(probe, INTERVAL_MS);
if (what === 'metrics') setInterval(readLoop, METRICS_EVERY_MS).unref();
process.stdout.write('ready\n');
createInterface({ input: process.stdin }).once('line', () => {
  clearInterval(timer);
  process.stdout.write(`${JSON.stringify({ latencies, ofDaemon, failures, loop } satisfies Probes)}\n`);
});
