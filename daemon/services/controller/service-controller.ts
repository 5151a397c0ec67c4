// SPDX-License-Identifier: Apache-2.0
// Computes the table of DesiredPort rows from Services, EndpointSlices and this node. Only changed Services are recomputed; all
// of them are recomputed when the zone or the addresses of this node change. Only rows that differ are written, so an event
// without effect on a row causes no further work. The work is done in slices, and changes that arrive meanwhile do not wait for its end.
// It must not write before every source has completed its first list: incomplete input would withdraw Services that exist.
import { type Pace, SlicedLoop, type Steps } from '../../base/slices.ts';
import { apiServerPlaces, kubernetesService } from '../desired/api-servers.ts';
import { desiredPorts } from '../desired/desired-ports.ts';
import { type NodeContext, nodeContext } from '../desired/node-context.ts';
import { isSamePort } from '../desired/order.ts';
import { limitedSlices } from '../desired/slice-limit.ts';
import { excludedExternalIPs, refusedFrontends } from '../desired/unserved.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import { type DesiredPort, type Frontend, frontendKey } from '../../model/frontend.ts';
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
  /** Called once with each new message of refused() and limited(). */
  readonly onRefused?: (message: string) => void;
  /** When the work pauses. Default: never, so the rows are complete when start() returns. */
  readonly pace?: Pace;
  /**
   * The loop that applies the rows has fallen behind. The oldest batch then waits, so that the row of a single change does not wait for
   * its rows. Must become false by itself. Default: never.
   */
  readonly isBehind?: () => boolean;
}

/** Changes that are taken from a table in one step: 0.1 ms. */
const TAKEN_CHANGES = 128;

/** Services that changed together. Their rows are written when all of them have been computed. */
interface Batch {
  /** Keys of the Services that are not computed yet. A Service is in one batch at most. */
  readonly services: Set<string>;
  readonly steps: Steps;
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
  /** The messages of limited() by Service; Services without messages are absent. */
  readonly #limited = new Map<string, readonly string[]>();
  /** The messages of excluded() by Service. */
  readonly #excluded = new Map<string, string>();
  readonly #loop: SlicedLoop;
  /** The unfinished batches, the oldest first. */
  readonly #batches: Batch[] = [];
  #node: NodeContext | undefined;
  #serviceChanges: Observer<string, Service> | undefined;
  #sliceChanges: Observer<string, EndpointSlice> | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: ServiceControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.desired.registerSource('controller');
    this.#loop = new SlicedLoop({ begin: () => this.#work(), pace: options.pace });
  }

  /** The work that computes the rows; for those who must know whether all changes are in the rows. */
  get work(): Pick<SlicedLoop, 'isBusy' | 'onIdle'> {
    return this.#loop;
  }

  /** Begins to compute the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    const { services, slices, nodes, localAddresses, apiServers } = this.#options;
    this.#serviceChanges = services.observe();
    this.#sliceChanges = slices.observe();
    this.#unsubscribes = [services, slices, nodes, localAddresses, apiServers].map((table) => table.onChange(() => this.#loop.wake()));
    this.#loop.wake();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    this.#loop.stop();
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

  /** One message for each Service, and IP family, that has more endpoints than one Service may use. */
  limited(): string[] {
    return [...this.#limited.values()].flat();
  }

  /** One message for each Service with external IPs that the settings exclude. */
  excluded(): string[] {
    return [...this.#excluded.values()];
  }

  /**
   * Each slice first takes what has changed. The newest and the oldest batch then take turns, so that a single change does not wait for
   * thousands of earlier ones, and these are finished however many single changes follow.
   */
  *#work(): Steps {
    const { services, slices, nodes, localAddresses } = this.#options;
    if (![services, slices, nodes, localAddresses].every((table) => table.initialized)) return;
    let isNewSlice = true;
    for (let turn = 0; ; turn += 1) {
      if (isNewSlice) yield* this.#addBatch();
      const batch = this.#batches.at(turn % 2 === 0 ? -1 : 0);
      if (batch === undefined) break;
      if (batch === this.#batches[0] && this.#options.isBehind?.() === true) {
        isNewSlice = yield this.#batches.length === 1 ? 'pause' : undefined;
        continue;
      }
      if (batch.steps.next(false).done === true) this.#batches.splice(this.#batches.indexOf(batch), 1);
      isNewSlice = yield;
    }
    this.#owners.allSettled();
    this.#markInitialized();
  }

  /** Makes a batch of the Services to recompute, if there are any. */
  *#addBatch(): Steps {
    const services = new Set<string>();
    while (!this.#takeChanges(services)) yield;
    const node = this.#currentNode();
    if (node !== this.#node) for (const [key] of this.#options.services.all()) services.add(key);
    this.#node = node;
    if (services.size === 0) return;
    for (const batch of this.#batches) for (const key of services) batch.services.delete(key);
    this.#batches.push({ services, steps: this.#compute(services) });
  }

  /**
   * Adds the keys of Services to recompute. Returns true when nothing is left to take: all slice changes are applied before a Service is
   * recomputed, so an endpoint that moves between slices is never missing.
   */
  #takeChanges(into: Set<string>): boolean {
    const services = this.#serviceChanges?.take(TAKEN_CHANGES) ?? [];
    const slices = this.#sliceChanges?.take(TAKEN_CHANGES) ?? [];
    for (const { key } of services) into.add(key);
    for (const key of this.#slices.apply(slices)) into.add(key);
    return services.length < TAKEN_CHANGES && slices.length < TAKEN_CHANGES;
  }

  *#compute(services: Set<string>): Steps {
    const touched = new Set<string>();
    for (const service of services) {
      services.delete(service);
      if (this.#node !== undefined) this.#recompute(service, { node: this.#node, touched });
      yield;
    }
    yield* this.#publish(touched);
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
   * Replaces the rows and claims of a Service. Adds to `touched` every port whose row may change, including ports of other Services
   * that gain or lose a frontend.
   */
  #recompute(serviceKey: string, { node, touched }: { node: NodeContext; touched: Set<string> }): void {
    const service = this.#options.services.get(serviceKey);
    const slices = limitedSlices([...this.#slices.of(serviceKey)]);
    const ports = service === undefined ? [] : desiredPorts(service, slices.used, node);
    for (const key of this.#portsOf.get(serviceKey) ?? []) this.#withdraw(key, touched);
    if (ports.length === 0) this.#portsOf.delete(serviceKey);
    else
      this.#portsOf.set(
        serviceKey,
        ports.map((port) => port.key),
      );
    this.#note(serviceKey, service, node);
    this.#keep(this.#limited, serviceKey, ports.length === 0 ? [] : slices.messages);
    for (const port of ports) this.#claim(port, { service: serviceKey, created: service?.created ?? 0 }, touched);
  }

  /** Records the frontends and external IPs of the Service that this node does not serve. */
  #note(serviceKey: string, service: Service | undefined, node: NodeContext): void {
    this.#keep(this.#refused, serviceKey, service === undefined ? [] : refusedFrontends(service, node));
    const excluded = service === undefined ? undefined : excludedExternalIPs(service, node);
    if (excluded === undefined) this.#excluded.delete(serviceKey);
    else this.#excluded.set(serviceKey, excluded);
  }

  /** Replaces the messages about the Service, and reports those that are new. */
  #keep(messages: Map<string, readonly string[]>, serviceKey: string, present: readonly string[]): void {
    const before = messages.get(serviceKey) ?? [];
    for (const message of present) if (!before.includes(message)) this.#options.onRefused?.(message);
    if (present.length === 0) messages.delete(serviceKey);
    else messages.set(serviceKey, present);
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
  *#publish(touched: ReadonlySet<string>): Steps {
    const { desired } = this.#options;
    const others: string[] = [];
    for (const key of touched) {
      const row = this.#rowOf(key);
      const before = desired.get(key);
      if (row !== undefined && (before === undefined || gains(before, row))) this.#write(key);
      else if (before !== undefined && (row === undefined || !isSamePort(before, row))) others.push(key);
      yield;
    }
    for (const gone of [false, true]) {
      for (const key of others) {
        if (this.#wanted.has(key) === gone) continue;
        this.#write(key);
        yield;
      }
    }
  }

  /**
   * Writes the row of the port if it differs. There is no pause between the row that gains a frontend and the row that loses it, because
   * the loop must not find a frontend in two rows: a row keeps a frontend until the row of the new owner is written.
   */
  #write(key: string): void {
    const { desired } = this.#options;
    const owned = this.#rowOf(key);
    const before = desired.get(key);
    const kept = before?.frontends.filter((frontend) => this.#isKept(frontend, key)) ?? [];
    const row = kept.length === 0 ? owned : withFrontends(owned ?? before, [...(owned?.frontends ?? []), ...kept]);
    if (row === undefined) desired.delete(key);
    else if (before === undefined || !isSamePort(before, row)) desired.upsert(key, row);
    for (const frontend of owned?.frontends ?? []) {
      const last = this.#owners.lastOwnerOf(frontend);
      if (last !== undefined) this.#take(frontend, last);
      this.#owners.settled(frontend);
    }
  }

  /** The frontend has a new owner, whose row does not have it yet. */
  #isKept(frontend: Frontend, key: string): boolean {
    const owner = this.#owners.ownerOf(frontend);
    if (owner === undefined || owner === key) return false;
    const text = frontendKey(frontend);
    return this.#options.desired.get(owner)?.frontends.every((each) => frontendKey(each) !== text) ?? true;
  }

  /** Removes the frontend from the row of its last owner, and nothing else. */
  #take(frontend: Frontend, last: string): void {
    const { desired } = this.#options;
    const row = desired.get(last);
    const text = frontendKey(frontend);
    const left = row?.frontends.filter((each) => frontendKey(each) !== text) ?? [];
    if (row === undefined || left.length === row.frontends.length) return;
    if (left.length === 0 && !this.#wanted.has(last)) desired.delete(last);
    else desired.upsert(last, { ...row, frontends: left });
  }

  /** The row with only the frontends that the port owns; undefined if no Service has the port. */
  #rowOf(key: string): DesiredPort | undefined {
    const port = this.#wanted.get(key);
    if (port === undefined) return undefined;
    const frontends = port.frontends.filter((frontend) => this.#owners.ownerOf(frontend) === key);
    return frontends.length === port.frontends.length ? port : { ...port, frontends };
  }
}

const withFrontends = (row: DesiredPort | undefined, frontends: readonly Frontend[]): DesiredPort | undefined =>
  row === undefined ? undefined : { ...row, frontends };

function gains(before: DesiredPort, after: DesiredPort): boolean {
  const had = new Set(before.frontends.map(frontendKey));
  return after.frontends.some((frontend) => !had.has(frontendKey(frontend)));
}
