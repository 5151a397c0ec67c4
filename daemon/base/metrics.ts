// SPDX-License-Identifier: Apache-2.0
// The type with which a room adds its metrics to the Prometheus registry of api/metrics.ts without importing api/. Type only.
import type { Registry } from 'prom-client';

/** Registers the metrics of a room once. The returned function is called at every scrape and sets their values. */
export type MetricPart = (registry: Registry) => () => void;
