// SPDX-License-Identifier: Apache-2.0
// How a room adds its metrics to the Prometheus registry of api/metrics.ts without importing api/.
import type { Registry } from 'prom-client';

/** Registers a room's metrics once; the returned function sets their values and is called at every scrape. */
export type MetricPart = (registry: Registry) => () => void;
