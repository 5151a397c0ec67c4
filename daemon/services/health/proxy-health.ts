// SPDX-License-Identifier: Apache-2.0
// kube-proxy's health server (test/README.md, 12): /healthz for load balancers also depends on the eligibility of the node,
// /livez for the kubelet does not. The response bodies are those of the newest kube-proxy release. A port that is in use, for
// example by a kube-proxy that is still running, must not stop the agent: it is reported as a problem and retried.
import type { Clock } from '../../base/clock.ts';
import { families } from '../../model/address.ts';
import { healthHeaders, type HealthResponse } from './listener.ts';
import { type ListenerEvent, Listeners } from './listeners.ts';
import type { NodeEligibility } from './node-eligibility.ts';
import type { SyncHealth } from './sync-health.ts';

export type ProbePath = '/healthz' | '/livez';

export interface ProxyHealthOptions {
  /** "0.0.0.0" and "::" both mean all addresses of both families, as in kube-proxy, where the Go runtime causes this. */
  readonly at: { readonly address: string; readonly port: number };
  readonly sync: Pick<SyncHealth, 'status'>;
  readonly node: Pick<NodeEligibility, 'isEligible'>;
  readonly clock: Clock;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
  readonly onEvent: (event: ListenerEvent) => void;
  /** Called for every probe, for the metrics. */
  readonly onResponse?: (path: ProbePath, status: number) => void;
}

/** Short, because kube-proxy is usually stopped shortly before or after this agent starts. */
const retryMs = 5000;

/** Go's zero time, which kube-proxy writes if there was no sync yet. */
const never = '0001-01-01T00:00:00Z';
const text = (wall: number | undefined): string => (wall === undefined ? never : new Date(wall).toISOString());

export class ProxyHealthServer {
  readonly #options: ProxyHealthOptions;
  readonly #listeners: Listeners;

  constructor(options: ProxyHealthOptions) {
    this.#options = options;
    this.#listeners = new Listeners({ clock: options.clock, retryMs, onEvent: options.onEvent });
  }

  /** Resolves when the port has been tried. */
  async start(): Promise<void> {
    const { address, port } = this.#options.at;
    const addresses = address === '0.0.0.0' || address === '::' ? undefined : [address];
    this.#listeners.set([{ owner: 'the proxy health server', addresses, port, respond: (path) => this.#respond(path) }]);
    await this.#listeners.idle();
  }

  async stop(): Promise<void> {
    await this.#listeners.close();
  }

  /** Undefined while the server does not listen. */
  get port(): number | undefined {
    return this.#listeners.ports()[0];
  }

  problems(): string[] {
    return this.#listeners.problems();
  }

  /** Resolves when the port has been tried. */
  idle(): Promise<void> {
    return this.#listeners.idle();
  }

  #respond(path: string): HealthResponse {
    if (path !== '/healthz' && path !== '/livez') return notFound(path);
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

function notFound(path: string): HealthResponse {
  const detail = `${path} does not exist; use /healthz or /livez`;
  const problem = { type: 'about:blank', title: 'Not Found', status: 404, detail };
  return { status: 404, headers: { ...healthHeaders, 'Content-Type': 'application/problem+json' }, body: JSON.stringify(problem) };
}
