// SPDX-License-Identifier: Apache-2.0
// An HTTP port that a setting names. There are two such ports, as in kube-proxy: proxy-health.ts and proxy-metrics.ts give the responses. A
// port that is in use, for example by a kube-proxy that is still running, must not stop the agent: it is reported as a problem and retried.
import type { Clock } from '../../base/clock.ts';
import type { HttpServers } from '../../base/http-servers.ts';
import type { Responder } from './listener.ts';
import { type ListenerEvent, Listeners } from './listeners.ts';

export interface FixedPortOptions {
  /** "0.0.0.0" and "::" both mean all addresses of both families. It is the same in kube-proxy, because of the Go runtime. */
  readonly at: { readonly address: string; readonly port: number };
  readonly servers: Pick<HttpServers, 'create'>;
  readonly clock: Clock;
  readonly onEvent: (event: ListenerEvent) => void;
}

/**
 * Time after which a port that could not be opened is retried. Short, because kube-proxy is usually stopped shortly before or after this
 * agent starts.
 */
const retryMs = 5000;

export class FixedPort {
  readonly #owner: string;
  readonly #options: FixedPortOptions & { readonly respond: Responder };
  readonly #listeners: Listeners;

  /** `owner` is the subject of messages about the port. */
  constructor(owner: string, options: FixedPortOptions & { readonly respond: Responder }) {
    this.#owner = owner;
    this.#options = options;
    this.#listeners = new Listeners({ ...options, retryMs });
  }

  /** Resolves when the agent has tried to open the port, successfully or not. */
  async start(): Promise<void> {
    const { at, respond } = this.#options;
    const addresses = at.address === '0.0.0.0' || at.address === '::' ? undefined : [at.address];
    this.#listeners.set([{ owner: this.#owner, addresses, port: at.port, respond }]);
    await this.#listeners.idle();
  }

  async stop(): Promise<void> {
    await this.#listeners.close();
  }

  /** The actual port; undefined while the server does not listen. */
  get port(): number | undefined {
    return this.#listeners.ports()[0];
  }

  problems(): string[] {
    return this.#listeners.problems();
  }

  /** Resolves when the agent has tried to open the port, successfully or not. */
  idle(): Promise<void> {
    return this.#listeners.idle();
  }
}
