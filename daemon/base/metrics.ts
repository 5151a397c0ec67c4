// SPDX-License-Identifier: Apache-2.0
// The type of a function that adds metrics to the Prometheus registry of api/metrics.ts, and the type of the result. With these types, a
// folder of daemon/ exports or serves metrics without importing api/. Types only.
import type { Registry } from 'prom-client';

/** Registers metrics once. The returned function is called at every scrape and sets their values. */
export type MetricPart = (registry: Registry) => () => void;

/** The body of a response with all metrics, read at one moment. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: Buffer;
}
