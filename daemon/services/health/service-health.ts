// SPDX-License-Identifier: Apache-2.0
// Health-check node ports (test/README.md, 11): one HTTP port per Service of type LoadBalancer with externalTrafficPolicy
// Local. A load balancer probes the port to find out whether this node has endpoints of the Service. The class follows the tables,
// and must not open a port before their first list is complete. local-endpoints.ts counts endpoints, listeners.ts opens ports.
import type { Clock } from '../../base/clock.ts';
import type { HttpServers } from '../../base/http-servers.ts';
import { type Pace, SlicedLoop, type Steps } from '../../base/slices.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Service } from '../../model/service.ts';
import { SliceIndex } from '../controller/slice-index.ts';
import type { Observer, TableView } from '../../table/table.ts';
import { healthHeaders, type HealthResponse } from './listener.ts';
import { type ListenerEvent, Listeners, type WantedListener } from './listeners.ts';
import { countLocalReady, hasHealthCheck } from './local-endpoints.ts';

export interface ServiceHealthOptions {
  /** Keyed by "namespace/name". */
  readonly services: TableView<string, Service>;
  readonly slices: TableView<string, EndpointSlice>;
  readonly nodeName: string;
  /** Health of the proxy itself. The eligibility of the node does not matter (test/README.md, 12). */
  readonly isHealthy: () => boolean;
  /**
   * Listen addresses: the NodePort addresses if the setting nodePortAddresses is a CIDR list. Undefined means all addresses; "::"
   * and "0.0.0.0" mean all addresses of one family.
   */
  readonly addresses?: () => readonly string[] | undefined;
  /** The tables that addresses() depends on. addresses() is called again after each change of one of these tables. */
  readonly addressTables?: readonly Pick<TableView<string, unknown>, 'onChange'>[];
  readonly clock: Clock;
  readonly servers: Pick<HttpServers, 'create'>;
  readonly onEvent: (event: ListenerEvent) => void;
  /** When the work on changed objects pauses. Default: never. */
  readonly pace?: Pace;
}

/** Changes that are taken from a table in one step: 0.1 ms. */
const TAKEN_CHANGES = 128;

interface Checked {
  readonly service: Service;
  readonly count: number;
}

const retryMs = 30_000;

export class ServiceHealth {
  readonly #options: ServiceHealthOptions;
  readonly #listeners: Listeners;
  readonly #index = new SliceIndex();
  readonly #loop: SlicedLoop;
  readonly #checked = new Map<string, Checked>();
  readonly #portless = new Map<string, string>();
  #observers: { services: Observer<string, Service>; slices: Observer<string, EndpointSlice> } | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
    this.#listeners = new Listeners({ ...options, retryMs });
    this.#loop = new SlicedLoop({ begin: () => this.#work(), pace: options.pace });
  }

  /** Does not fail if a port cannot be opened: problems() reports it. */
  start(): void {
    const { services, slices, addressTables = [] } = this.#options;
    this.#observers = { services: services.observe(), slices: slices.observe() };
    this.#unsubscribes = [
      ...[services, slices].map((table) => table.onChange(() => this.#loop.wake())),
      ...addressTables.map((table) => table.onChange(() => this.#listen())),
    ];
    this.#loop.wake();
  }

  async stop(): Promise<void> {
    this.#loop.stop();
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#observers?.services.close();
    this.#observers?.slices.close();
    this.#observers = undefined;
    await this.#listeners.close();
  }

  /** One message for each port that cannot be opened and for each Service without a port number. */
  problems(): string[] {
    return [...this.#portless.values(), ...this.#listeners.problems()];
  }

  /** Resolves when every wanted port has been tried. */
  idle(): Promise<void> {
    return this.#listeners.idle();
  }

  *#work(): Steps {
    const { services, slices } = this.#options;
    const observers = this.#observers;
    if (observers === undefined || !services.initialized || !slices.initialized) return;
    const touched = new Set<string>();
    let hasServices = false;
    for (let isDone = false; !isDone;) {
      const ofSlices = observers.slices.take(TAKEN_CHANGES);
      const ofServices = observers.services.take(TAKEN_CHANGES);
      for (const key of this.#index.apply(ofSlices)) touched.add(key);
      for (const { key } of ofServices) touched.add(key);
      hasServices ||= ofServices.length > 0;
      isDone = ofSlices.length < TAKEN_CHANGES && ofServices.length < TAKEN_CHANGES;
      if (!isDone) yield;
    }
    for (const key of touched) {
      this.#recount(key);
      yield;
    }
    if (hasServices) this.#listen();
  }

  /** Updates the listeners with the current addresses. Failed ports are retried. */
  #listen(): void {
    this.#listeners.set(this.#wanted());
  }

  #recount(key: string): void {
    const service = this.#options.services.get(key);
    const isChecked = service !== undefined && hasHealthCheck(service);
    if (isChecked && service.healthCheckNodePort === 0) this.#reportMissingPort(key, service);
    else this.#portless.delete(key);
    if (isChecked && service.healthCheckNodePort !== 0) {
      this.#checked.set(key, { service, count: countLocalReady(service, this.#index.of(key), this.#options.nodeName) });
    } else this.#checked.delete(key);
  }

  #reportMissingPort(key: string, service: Service): void {
    if (this.#portless.has(key)) return;
    const message = `${ownerOf(service)} has no port: set spec.healthCheckNodePort`;
    this.#portless.set(key, message);
    this.#options.onEvent({ kind: 'failed', owner: ownerOf(service), port: 0, message });
  }

  /** If two Services have the same port, the older Service gets it. */
  #wanted(): WantedListener[] {
    const addresses = this.#options.addresses?.();
    return [...this.#checked]
      .toSorted(([aKey, a], [bKey, b]) => a.service.created - b.service.created || (aKey < bKey ? -1 : 1))
      .map(([, { service }]) => ({
        ...{ owner: ownerOf(service), addresses, port: service.healthCheckNodePort },
        respond: () => this.#respond(service),
      }));
  }

  #respond({ namespace, name }: Service): HealthResponse {
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
