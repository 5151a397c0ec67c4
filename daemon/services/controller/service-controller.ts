// SPDX-License-Identifier: Apache-2.0
// Computes the table of DesiredPort rows from Services, EndpointSlices and this node. Only changed Services are recomputed; all
// of them are recomputed when the zone or the addresses of this node change. Only rows that differ are written, so an event
// without effect on a row causes no further work. It must not write before every source has completed its first list:
// incomplete input would withdraw Services that exist.
import { apiServerPlaces, kubernetesService } from '../desired/api-servers.ts';
import { desiredPorts } from '../desired/desired-ports.ts';
import { type NodeContext, nodeContext } from '../desired/node-context.ts';
import { isSamePort } from '../desired/order.ts';
import { excludedExternalIPs, refusedFrontends } from '../desired/unserved.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import { type DesiredPort, frontendKey } from '../../model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import type { Node } from '../../model/node.ts';
import type { Service } from '../../model/service.ts';
import { SliceIndex } from './slice-index.ts';
import type { Observer, Table, TableView } from '../../table/table.ts';
import { type Conflict, FrontendOwners } from './frontend-owners.ts';

export interface ServiceControllerOptions {
  /** Keyed by "namespace/name". */
  readonly services: TableView<string, Service>;
  /** Keyed by "namespace/name". */
  readonly slices: TableView<string, EndpointSlice>;
  /** Keyed by name. */
  readonly nodes: TableView<string, Node>;
  readonly localAddresses: TableView<string, LocalAddress>;
  /**
   * The controller does not wait until this table is initialized: when an address becomes known later, the frontends at that address are
   * withdrawn.
   */
  readonly apiServers: TableView<string, ApiServerAddress>;
  /** Written by this controller only. It is initialized by the first computation. */
  readonly desired: Table<string, DesiredPort>;
  /** Name of this node. */
  readonly nodeName: string;
  readonly settings: HostSettings;
  /** Called once with each new message of refused(). */
  readonly onRefused?: (message: string) => void;
}

export class ServiceController {
  readonly #options: ServiceControllerOptions;
  readonly #markInitialized: () => void;
  readonly #owners = new FrontendOwners();
  /** By port key: the row of each port with all frontends that it claims, including those that it does not own. */
  readonly #wanted = new Map<string, DesiredPort>();
  /** Port keys of each Service. */
  readonly #portsOf = new Map<string, string[]>();
  readonly #slices = new SliceIndex();
  /** The messages of refused() by Service; Services without messages are absent. */
  readonly #refused = new Map<string, readonly string[]>();
  /** The messages of excluded() by Service. */
  readonly #excluded = new Map<string, string>();
  #node: NodeContext | undefined;
  #serviceChanges: Observer<string, Service> | undefined;
  #sliceChanges: Observer<string, EndpointSlice> | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: ServiceControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.desired.registerSource('controller');
  }

  /** Computes the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    const { services, slices, nodes, localAddresses, apiServers } = this.#options;
    this.#serviceChanges = services.observe();
    this.#sliceChanges = slices.observe();
    this.#unsubscribes = [services, slices, nodes, localAddresses, apiServers].map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#serviceChanges?.close();
    this.#sliceChanges?.close();
  }

  /** Frontends that more than one Service port claims, sorted. At most a thousand are listed. */
  conflicts(): Conflict[] {
    return this.#owners.conflicts();
  }

  /** Number of frontends that more than one Service port claims. */
  get conflictCount(): number {
    return this.#owners.conflictCount;
  }

  /** One message for each frontend that is not served because it would take over the connection to the API server. */
  refused(): string[] {
    return [...this.#refused.values()].flat();
  }

  /** One message for each Service with external IPs that the settings exclude. */
  excluded(): string[] {
    return [...this.#excluded.values()];
  }

  #run(): void {
    const { services, slices, nodes, localAddresses } = this.#options;
    if (![services, slices, nodes, localAddresses].every((table) => table.initialized)) return;
    const changed = this.#changedServices();
    const node = this.#currentNode();
    if (node !== this.#node) for (const [service] of services.all()) changed.add(service);
    this.#node = node;
    const touched = new Set<string>();
    for (const service of changed) this.#recompute(service, { node, touched });
    this.#publish(touched);
    this.#markInitialized();
  }

  /**
   * The properties of this node that all Services depend on. Returns the same object as the previous call if the content is equal.
   */
  #currentNode(): NodeContext {
    const { services, nodes, localAddresses, apiServers, nodeName, settings } = this.#options;
    const local = [...localAddresses.all()].map(([, row]) => row);
    const places = apiServerPlaces({
      ...{ apiServers: [...apiServers.all()].map(([, row]) => row), localAddresses: local },
      ...{ kubernetes: services.get(kubernetesService), slices: [...this.#slices.of(kubernetesService)] },
    });
    const node = nodeContext({ nodeName, node: nodes.get(nodeName), localAddresses: local, settings, apiServerPlaces: places });
    return this.#node !== undefined && JSON.stringify(this.#node) === JSON.stringify(node) ? this.#node : node;
  }

  /**
   * Keys of the Services to recompute. All slice changes are applied before a Service is recomputed, so an endpoint that moves
   * between slices is never missing.
   */
  #changedServices(): Set<string> {
    const changed = new Set(this.#serviceChanges?.take().map((change) => change.key));
    return changed.union(this.#slices.apply(this.#sliceChanges?.take() ?? []));
  }

  /**
   * Replaces the rows and claims of a Service. Adds to `touched` every port whose row may change, including ports of other Services
   * that gain or lose a frontend.
   */
  #recompute(serviceKey: string, { node, touched }: { node: NodeContext; touched: Set<string> }): void {
    const service = this.#options.services.get(serviceKey);
    const ports = service === undefined ? [] : desiredPorts(service, [...this.#slices.of(serviceKey)], node);
    for (const key of this.#portsOf.get(serviceKey) ?? []) this.#withdraw(key, touched);
    if (ports.length === 0) this.#portsOf.delete(serviceKey);
    else
      this.#portsOf.set(
        serviceKey,
        ports.map((port) => port.key),
      );
    this.#note(serviceKey, service, node);
    for (const port of ports) this.#claim(port, { service: serviceKey, created: service?.created ?? 0 }, touched);
  }

  /** Records the frontends and external IPs of the Service that this node does not serve. */
  #note(serviceKey: string, service: Service | undefined, node: NodeContext): void {
    const before = this.#refused.get(serviceKey) ?? [];
    const refused = service === undefined ? [] : refusedFrontends(service, node);
    for (const message of refused) if (!before.includes(message)) this.#options.onRefused?.(message);
    if (refused.length === 0) this.#refused.delete(serviceKey);
    else this.#refused.set(serviceKey, refused);
    const excluded = service === undefined ? undefined : excludedExternalIPs(service, node);
    if (excluded === undefined) this.#excluded.delete(serviceKey);
    else this.#excluded.set(serviceKey, excluded);
  }

  #withdraw(key: string, touched: Set<string>): void {
    touched.add(key);
    for (const frontend of this.#wanted.get(key)?.frontends ?? []) {
      for (const owner of this.#owners.remove(frontend, key)) touched.add(owner);
    }
    this.#wanted.delete(key);
  }

  #claim(port: DesiredPort, by: { service: string; created: number }, touched: Set<string>): void {
    touched.add(port.key);
    this.#wanted.set(port.key, port);
    for (const frontend of port.frontends) {
      for (const owner of this.#owners.add(frontend, { key: port.key, ...by })) touched.add(owner);
    }
  }

  /** Rows that gain a frontend are written first and deletions last, so a VIP that changes its owner is served at all times. */
  #publish(touched: ReadonlySet<string>): void {
    const { desired } = this.#options;
    const others: DesiredPort[] = [];
    const gone: string[] = [];
    for (const key of touched) {
      const wanted = this.#wanted.get(key);
      if (wanted === undefined) {
        gone.push(key);
        continue;
      }
      const row = this.#owned(wanted);
      const before = desired.get(key);
      if (before === undefined || gains(before, row)) desired.upsert(key, row);
      else if (!isSamePort(before, row)) others.push(row);
    }
    for (const row of others) desired.upsert(row.key, row);
    for (const key of gone) desired.delete(key);
  }

  /** The row with only the frontends that the port owns. */
  #owned(port: DesiredPort): DesiredPort {
    const frontends = port.frontends.filter((frontend) => this.#owners.isOwner(frontend, port.key));
    return frontends.length === port.frontends.length ? port : { ...port, frontends };
  }
}

function gains(before: DesiredPort, after: DesiredPort): boolean {
  const had = new Set(before.frontends.map(frontendKey));
  return after.frontends.some((frontend) => !had.has(frontendKey(frontend)));
}
