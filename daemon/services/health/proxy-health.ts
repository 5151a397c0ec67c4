// SPDX-License-Identifier: Apache-2.0
// kube-proxy's own health server (kube-proxy-semantics.md, 12): /healthz for load balancers, which looks at the node too,
// and /livez for the kubelet, which does not. The bodies are those of its newest release. A port that is taken, by a
// kube-proxy that still runs, stops nothing: it is a problem, and tried again.
import type { Clock } from '../../base/clock.ts';
import { families } from '../../model/address.ts';
import { type HealthResponse, healthHeaders } from './listener.ts';
import { type ListenerEvent, Listeners } from './listeners.ts';
import type { NodeEligibility } from './node-eligibility.ts';
import type { SyncHealth } from './sync-health.ts';

export type ProbePath = '/healthz' | '/livez';

export interface ProxyHealthOptions {
  /** 0.0.0.0 and "::" both mean every address of both families, as kube-proxy's runtime takes them. */
  readonly at: { readonly address: string; readonly port: number };
  readonly sync: Pick<SyncHealth, 'status'>;
  readonly node: Pick<NodeEligibility, 'isEligible'>;
  readonly clock: Clock;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
  readonly onEvent: (event: ListenerEvent) => void;
  /** Hears of every answer; for the metrics. */
  readonly onAnswer?: (path: ProbePath, status: number) => void;
}

/** Soon: kube-proxy is stopped just before or after we start. */
const retryMs = 5000;

/** How kube-proxy writes the time of what never happened. */
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
    this.#listeners.set([{ owner: 'the proxy health server', addresses, port, answer: (path) => this.#answer(path) }]);
    await this.#listeners.idle();
  }

  async stop(): Promise<void> {
    await this.#listeners.close();
  }

  /** Undefined while it does not listen. */
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

  #answer(path: string): HealthResponse {
    if (path !== '/healthz' && path !== '/livez') return notFound(path);
    const answer = this.#probe(path);
    this.#options.onAnswer?.(path, answer.status);
    return answer;
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
      // Of a good proxy it says "now", however long ago the last sync: probers take an old time for a stuck proxy.
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
  const detail = `there is no ${path}: try /healthz or /livez`;
  const problem = { type: 'about:blank', title: 'Not Found', status: 404, detail };
  return { status: 404, headers: { ...healthHeaders, 'Content-Type': 'application/problem+json' }, body: JSON.stringify(problem) };
}
