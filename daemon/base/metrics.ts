// SPDX-License-Identifier: Apache-2.0
// The type of a function that adds metrics to the Prometheus registry of api/metrics.ts. With it, a folder of daemon/ exports
// metrics without importing api/. Type only.
import type { Registry } from 'prom-client';

/** Registers metrics once. The returned function is called at every scrape and sets their values. */
export type MetricPart = (registry: Registry) => () => void;
