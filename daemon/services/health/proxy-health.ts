// SPDX-License-Identifier: Apache-2.0
// kube-proxy's health server (test/README.md, 12): /healthz for load balancers also depends on the eligibility of the node,
// /livez for the kubelet does not. The response bodies are those of the newest kube-proxy release. A port that is in use, for
// example by a kube-proxy that is still running, must not stop the agent: it is reported as a problem and retried.
import { families } from '../../model/address.ts';
import { FixedPort, type FixedPortOptions } from './fixed-port.ts';
import { healthHeaders, type HealthResponse, problemResponse } from './listener.ts';
import type { NodeEligibility } from './node-eligibility.ts';
import type { SyncHealth } from './sync-health.ts';

export type ProbePath = '/healthz' | '/livez';

export interface ProxyHealthOptions extends FixedPortOptions {
  readonly sync: Pick<SyncHealth, 'status'>;
  readonly node: Pick<NodeEligibility, 'isEligible'>;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
  /** Called for every probe, so that metrics can count it. */
  readonly onResponse?: (path: ProbePath, status: number) => void;
}

/** Go's zero time, which kube-proxy writes if there was no sync yet. */
const never = '0001-01-01T00:00:00Z';
const text = (wall: number | undefined): string => (wall === undefined ? never : new Date(wall).toISOString());

export class ProxyHealthServer extends FixedPort {
  readonly #options: ProxyHealthOptions;

  constructor(options: ProxyHealthOptions) {
    super('the proxy health server', { ...options, respond: (path) => this.#respond(path) });
    this.#options = options;
  }

  #respond(path: string): HealthResponse {
    if (path !== '/healthz' && path !== '/livez') return problemResponse(404, `${path} does not exist; use /healthz or /livez`);
    const response = this.#probe(path);
    this.#options.onResponse?.(path, response.status);
    return response;
  }

  #probe(path: ProbePath): HealthResponse {
    const { sync, node, clock, wallNow = Date.now } = this.#options;
    const [now, wall] = [clock.now(), wallNow()];
    const states = families.map((family) => ({ family, ...sync.status(family, now) }));
    const healthy = states.every((state) => state.isHealthy);
    const nodeEligible = node.isEligible;
    const isGood = healthy && (path === '/livez' || nodeEligible);
    const known = states.filter(({ lastUpdated }) => lastUpdated !== undefined);
    const last = known.length === 0 ? undefined : Math.max(...known.map(({ lastUpdated }) => lastUpdated ?? 0));
    const body = {
      // A healthy proxy reports the current time, even if the last sync was long ago: probers treat an old time as a hung proxy.
      lastUpdated: text(isGood ? wall : last),
      currentTime: text(wall),
      ...(path === '/healthz' ? { nodeEligible } : {}),
      healthy,
      ...(known.length === 0 ? {} : { status: Object.fromEntries(known.map(statusEntry)) }),
    };
    return { status: isGood ? 200 : 503, headers: healthHeaders, body: JSON.stringify(body) };
  }
}

interface Known {
  readonly family: string;
  readonly lastUpdated: number | undefined;
  readonly isHealthy: boolean;
}

const statusEntry = ({ family, lastUpdated, isHealthy }: Known): [string, object] => [
  family,
  { lastUpdated: text(lastUpdated), healthy: isHealthy },
];
