// SPDX-License-Identifier: Apache-2.0
// kube-proxy's other port (test/README.md, 12): /metrics for collectors that scrape kube-proxy, /proxyMode, and a /healthz that
// succeeds while the process responds. The metrics are those of api/metrics.ts, which the agent passes. It must never compute
// metrics per request: the caller limits how often they are computed.
import type { MetricsPage } from '../../base/metrics.ts';
import { FixedPort, type FixedPortOptions } from './fixed-port.ts';
import { type HealthResponse, problemResponse } from './listener.ts';

export interface ProxyMetricsOptions extends FixedPortOptions {
  readonly page: () => Promise<MetricsPage>;
}

/**
 * The response of /proxyMode. kube-proxy answers "iptables", "ipvs" or "nftables", and callers then look for the rules of that mode. Sluice
 * has no such rules, so it answers another name: callers that do not know the name do not look for rules.
 */
const PROXY_MODE = 'ebpf';

const textHeaders = { 'Content-Type': 'text/plain; charset=utf-8', 'X-Content-Type-Options': 'nosniff' } as const;

const textResponse = (body: string): HealthResponse => ({ status: 200, headers: textHeaders, body });

export class ProxyMetricsServer extends FixedPort {
  constructor({ page, ...options }: ProxyMetricsOptions) {
    super('the metrics server', { ...options, respond: (path) => respond(path, page) });
  }
}

async function respond(path: string, page: ProxyMetricsOptions['page']): Promise<HealthResponse> {
  switch (path) {
    case '/metrics': {
      const { contentType, body } = await page();
      return { status: 200, headers: { 'Content-Type': contentType, 'X-Content-Type-Options': 'nosniff' }, body };
    }
    case '/proxyMode':
      return textResponse(PROXY_MODE);
    case '/healthz':
      return textResponse('ok');
    default:
      return problemResponse(404, `${path} does not exist; use /metrics, /proxyMode or /healthz`);
  }
}
