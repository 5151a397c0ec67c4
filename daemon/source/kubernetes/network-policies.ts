// SPDX-License-Identifier: Apache-2.0
// Asks the API server, at the start and then rarely, whether the cluster has a NetworkPolicy, which this agent does not enforce. A failed
// request is not a problem of the agent; the status then says that the answer is unknown. It reads one object and keeps none. Built and
// started by agent/.
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { SummaryPart } from '../../base/status-part.ts';
import { type ApiClient, UnreachableError } from './api-client.ts';
import { pathOf } from './resources.ts';
import { listOf, readSmallBody } from './small-body.ts';
import { statusOfResponse } from './status-error.ts';

export const networkPolicies = { apiVersion: 'networking.k8s.io/v1', plural: 'networkpolicies' } as const;

/** Name in RBAC rules. */
export const networkPoliciesName = 'networkpolicies.networking.k8s.io';

export const networkPoliciesPath = `${pathOf(networkPolicies.apiVersion, networkPolicies.plural)}?limit=1`;

/** Interval of the requests. Policies change rarely, and one message is about all of them together. */
const PERIOD_MS = 600_000;
/** Delay after a failure that may end soon, such as a restart of the API server. */
const RETRY_MS = 60_000;
/** Time limit of one request, with its body. */
const REQUEST_MS = 20_000;

const noPolicies = 'no NetworkPolicy in the cluster';

export interface NetworkPolicyProbeOptions {
  readonly client: ApiClient;
  readonly clock: Pick<Clock, 'setTimer'>;
}

/** The answer as text for people, with at most one problem. */
interface Found {
  readonly summary: string;
  readonly problems: readonly string[];
}

export class NetworkPolicyProbe implements SummaryPart {
  readonly #options: NetworkPolicyProbeOptions;
  readonly #stopping = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #cancelTimer = (): void => undefined;
  #found: Found = { summary: 'not asked yet', problems: [] };

  constructor(options: NetworkPolicyProbeOptions) {
    this.#options = options;
  }

  /** Starts to ask at once, and returns without waiting for the answer. */
  start(): void {
    this.#running = this.#ask();
  }

  async stop(): Promise<void> {
    this.#cancelTimer();
    this.#stopping.abort(new DOMException('stopping', 'AbortError'));
    await this.#running;
  }

  /** The last answer, as text for people. */
  summary(): string {
    return this.#found.summary;
  }

  /** At most one message. */
  problems(): readonly string[] {
    return this.#found.problems;
  }

  async #ask(): Promise<void> {
    const { clock } = this.#options;
    const expired = new AbortController();
    const cancelLimit = clock.setTimer(REQUEST_MS, () => expired.abort(new UnreachableError(`no answer within ${REQUEST_MS / 1000} s`)));
    let nextMs = PERIOD_MS;
    try {
      this.#found = await ask(this.#options.client, AbortSignal.any([this.#stopping.signal, expired.signal]));
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      nextMs = RETRY_MS;
      this.#found = { summary: `unknown: ${messageOf(error)}`, problems: [] };
    } finally {
      cancelLimit();
    }
    this.#cancelTimer = clock.setTimer(nextMs, () => this.start());
  }
}

async function ask(client: ApiClient, signal: AbortSignal): Promise<Found> {
  const response = await client.get(networkPoliciesPath, signal);
  if (response.status !== 200) {
    const { code } = await statusOfResponse(response);
    if (code === 404) return { summary: noPolicies, problems: [] };
    const why =
      code === 403 ? `the ClusterRole does not grant the verb "list" on ${networkPoliciesName}` : `the API server answers ${code}`;
    return { summary: `unknown: ${why}`, problems: [] };
  }
  return foundIn(await readSmallBody(response));
}

function foundIn(raw: unknown): Found {
  const { items, metadata } = listOf(raw);
  if (items.length === 0) return { summary: noPolicies, problems: [] };
  const { continue: token = '', remainingItemCount: more } = metadata;
  // A server may omit the count of the items that are not in this page.
  if (typeof more !== 'number') return unenforced(token === '' ? `${items.length}` : `more than ${items.length}`);
  return unenforced(`${items.length + more}`);
}

function unenforced(count: string): Found {
  return {
    summary: `the cluster has ${count} ${count === '1' ? 'NetworkPolicy' : 'NetworkPolicies'}`,
    problems: [
      'Sluice does not enforce NetworkPolicies, and packets that it forwards to another device pass neither netfilter nor clsact filters of the node: check that another agent, such as a CNI plugin, enforces the policies elsewhere',
    ],
  };
}
