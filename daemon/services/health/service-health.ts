// SPDX-License-Identifier: Apache-2.0
// Health-check node ports (kube-proxy-semantics.md, 11): one HTTP port for each Service of type LoadBalancer with
// externalTrafficPolicy Local, by which a load balancer learns whether this node has endpoints for it. Follows the tables;
// opens nothing before their first list. local-endpoints.ts counts, listeners.ts listens.
import type { Clock } from '../../base/clock.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Service } from '../../model/service.ts';
import { SliceIndex } from '../controller/slice-index.ts';
import type { Observer, TableView } from '../../table/table.ts';
import { type Answer, healthHeaders } from './listener.ts';
import { type ListenerEvent, Listeners, type WantedListener } from './listeners.ts';
import { countLocalReady, hasHealthCheck } from './local-endpoints.ts';

export interface ServiceHealthOptions {
  /** Keyed by "namespace/name". */
  readonly services: TableView<string, Service>;
  readonly slices: TableView<string, EndpointSlice>;
  readonly nodeName: string;
  /** Of the proxy itself, whatever the node's eligibility (12). */
  readonly isHealthy: () => boolean;
  /** Where to listen: the NodePort addresses when they are a CIDR list. Undefined: everywhere. "::", "0.0.0.0": all of a family. */
  readonly addresses?: () => readonly string[] | undefined;
  /** The tables that addresses() is made of: a change asks again. */
  readonly addressTables?: readonly Pick<TableView<string, unknown>, 'onChange'>[];
  readonly clock: Clock;
  readonly onEvent: (event: ListenerEvent) => void;
}

interface Checked {
  readonly service: Service;
  readonly count: number;
}

const retryMs = 30_000;

export class ServiceHealth {
  readonly #options: ServiceHealthOptions;
  readonly #listeners: Listeners;
  readonly #index = new SliceIndex();
  readonly #checked = new Map<string, Checked>();
  readonly #portless = new Map<string, string>();
  #observers: { services: Observer<string, Service>; slices: Observer<string, EndpointSlice> } | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
    this.#listeners = new Listeners({ clock: options.clock, retryMs, onEvent: options.onEvent });
  }

  /** Fails for no port: what cannot be opened is a problem. */
  start(): void {
    const { services, slices, addressTables = [] } = this.#options;
    this.#observers = { services: services.observe(), slices: slices.observe() };
    this.#unsubscribes = [
      ...[services, slices].map((table) => table.onChange(() => this.#run())),
      ...addressTables.map((table) => table.onChange(() => this.#listen())),
    ];
    this.#run();
  }

  async stop(): Promise<void> {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#observers?.services.close();
    this.#observers?.slices.close();
    this.#observers = undefined;
    await this.#listeners.close();
  }

  /** Ports that cannot be opened and Services that have none, one sentence each. */
  problems(): string[] {
    return [...this.#portless.values(), ...this.#listeners.problems()];
  }

  /** Resolves when everything that should be open has been tried. */
  idle(): Promise<void> {
    return this.#listeners.idle();
  }

  #run(): void {
    const { services, slices } = this.#options;
    if (this.#observers === undefined || !services.initialized || !slices.initialized) return;
    const touched = this.#index.apply(this.#observers.slices.take());
    const changes = this.#observers.services.take();
    for (const { key } of changes) touched.add(key);
    for (const key of touched) this.#recount(key);
    if (changes.length > 0) this.#listen();
  }

  /** Asks for the addresses again, and tries what failed. */
  #listen(): void {
    this.#listeners.set(this.#wanted());
  }

  #recount(key: string): void {
    const service = this.#options.services.get(key);
    const isChecked = service !== undefined && hasHealthCheck(service);
    if (isChecked && service.healthCheckNodePort === 0) this.#missPort(key, service);
    else this.#portless.delete(key);
    if (isChecked && service.healthCheckNodePort !== 0) {
      this.#checked.set(key, { service, count: countLocalReady(service, this.#index.of(key), this.#options.nodeName) });
    } else this.#checked.delete(key);
  }

  #missPort(key: string, service: Service): void {
    if (this.#portless.has(key)) return;
    const sentence = `${ownerOf(service)} has no port: set spec.healthCheckNodePort`;
    this.#portless.set(key, sentence);
    this.#options.onEvent({ did: 'failed', owner: ownerOf(service), port: 0, sentence });
  }

  /** Of two Services that ask for one port the older has it. */
  #wanted(): WantedListener[] {
    const addresses = this.#options.addresses?.();
    return [...this.#checked]
      .toSorted(([aKey, a], [bKey, b]) => a.service.created - b.service.created || (aKey < bKey ? -1 : 1))
      .map(([, { service }]) => ({
        ...{ owner: ownerOf(service), addresses, port: service.healthCheckNodePort },
        answer: () => this.#answer(service),
      }));
  }

  #answer({ namespace, name }: Service): Answer {
    const isHealthy = this.#options.isHealthy();
    const count = this.#checked.get(objectKey({ namespace, name }))?.count ?? 0;
    const body = { service: { namespace, name }, localEndpoints: count, serviceProxyHealthy: isHealthy };
    return {
      status: count > 0 && isHealthy ? 200 : 503,
      headers: { ...healthHeaders, 'X-Load-Balancing-Endpoint-Weight': String(count) },
      body: JSON.stringify(body, null, '\t'),
    };
  }
}

const ownerOf = (service: Service): string => `the health check of Service ${objectKey(service)}`;
