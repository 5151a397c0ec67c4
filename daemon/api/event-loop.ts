// SPDX-License-Identifier: Apache-2.0
// The delay of the event loop as a metric: how late the process starts work that is due. Every task of the process, such as the answer to a
// probe or the change of a Service, can be delayed by this time. The values cover the current and the previous minute, and a scrape does
// not reset them. The metrics nodejs_eventloop_lag_* of prom-client are not used for this, because every scrape resets them and they
// contain the sampling interval. Called by agent.ts.
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Gauge } from 'prom-client';

import type { MetricPart } from '../base/metrics.ts';

/** Interval of the samples in milliseconds. A sample is the time since the previous one, so the interval is subtracted. */
const SAMPLE_MS = 10;

/** Length of a window in milliseconds. The metric reports the larger of the delays of the current window and of the previous one. */
const WINDOW_MS = 60_000;

const quantiles = [0.5, 0.9, 0.99, 1];

/**
 * Starts the sampling. It wakes the process 100 times a second but runs no JavaScript. The metrics of prom-client sample in the same way.
 */
export const eventLoopMetrics: MetricPart = (registry) => {
  const monitor = monitorEventLoopDelay({ resolution: SAMPLE_MS });
  monitor.enable();
  const current = (): number[] =>
    quantiles.map((quantile) => {
      if (monitor.count === 0) return 0;
      const nanoseconds = quantile === 1 ? monitor.max : monitor.percentile(quantile * 100);
      return Math.max(0, nanoseconds / 1e9 - SAMPLE_MS / 1000);
    });
  let previous = quantiles.map(() => 0);
  const rotate = (): void => {
    previous = current();
    monitor.reset();
  };
  setInterval(rotate, WINDOW_MS).unref();
  const delay = new Gauge({
    name: 'sluice_event_loop_delay_seconds',
    help: 'Delay of the event loop: the larger of the values for the current minute and for the previous minute. The quantile 1 is the longest delay.',
    labelNames: ['quantile'],
    registers: [registry],
  });
  return () => {
    for (const [index, seconds] of current().entries()) {
      delay.set({ quantile: String(quantiles[index]) }, Math.max(seconds, previous[index] ?? 0));
    }
  };
};
