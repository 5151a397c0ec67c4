// SPDX-License-Identifier: Apache-2.0
// Computes the host row and the table of address sets from Services, Nodes, local addresses and ServiceCIDRs. ClusterIPs are
// updated one changed Service at a time. Everything else is small and is recomputed completely. Only rows that differ are written. The
// work is done in slices.
// It must not write before every source has completed its first list: incomplete input would withdraw addresses in use.
import { type Pace, SlicedLoop, type Steps } from '../../base/slices.ts';
import { ClusterIPs } from '../desired/cluster-ips.ts';
import { kubernetesService, noClusterIPs } from '../desired/api-servers.ts';
import { desiredHost, isSameHost } from '../desired/desired-host.ts';
import { hostCidr } from '../../model/address.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import type { DesiredDevice, DeviceRole } from '../../model/device.ts';
import { type DesiredHost, type DesiredRange, hostKey, rangeKey } from '../../model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
import type { MasqueradeSource } from '../../model/masquerade.ts';
import type { Node } from '../../model/node.ts';
import type { Service } from '../../model/service.ts';
import type { ServiceCIDR } from '../../model/service-cidr.ts';
import type { Observer, Table, TableView } from '../../table/table.ts';

export interface HostControllerOptions {
  readonly services: TableView<string, Service>;
  /** Keyed by name. */
  readonly nodes: TableView<string, Node>;
  /** Keyed by name. */
  readonly serviceCIDRs: TableView<string, ServiceCIDR>;
  readonly localAddresses: TableView<string, LocalAddress>;
  readonly apiServers: TableView<string, ApiServerAddress>;
  /** The devices that have programs. Undefined if they are unknown, as in a dry run. */
  readonly devices?: TableView<number, DesiredDevice> | undefined;
  /** Source addresses of masqueraded packets. Undefined in a dry run. */
  readonly masqueradeSources?: TableView<string, MasqueradeSource> | undefined;
  /** Written by this controller only, like `ranges`. Both tables are initialized by the first computation. */
  readonly host: Table<string, DesiredHost>;
  /** The members of the address sets, by rangeKey(). */
  readonly ranges: Table<string, DesiredRange>;
  /** Name of this node. */
  readonly nodeName: string;
  readonly settings: HostSettings;
  /** When the work pauses. Default: never, so the rows are complete when start() returns. */
  readonly pace?: Pace;
}

/** Changes that are taken from the table in one step: 0.1 ms. */
const TAKEN_CHANGES = 64;

export class HostController {
  readonly #options: HostControllerOptions;
  readonly #markInitialized: readonly (() => void)[];
  readonly #clusterIPs = new ClusterIPs();
  readonly #loop: SlicedLoop;
  /** Keys of the members that the last call of desiredHost() returned. */
  #computed: readonly string[] = [];
  /** Addresses of the API server, which must not become ClusterIPs. */
  #noClusterIPs: ReadonlySet<string> = new Set();
  #refusedCIDRs: readonly string[] = [];
  #overlaps: readonly string[] = [];
  #serviceChanges: Observer<string, Service> | undefined;
  #sourceChanges: Observer<string, MasqueradeSource> | undefined;
  #removedSources = 0;
  #unsubscribes: (() => void)[] = [];

  constructor(options: HostControllerOptions) {
    this.#options = options;
    this.#markInitialized = [options.ranges, options.host].map((table) => table.registerSource('host-controller'));
    this.#loop = new SlicedLoop({ begin: () => this.#work(), pace: options.pace });
  }

  /** The work that computes the rows; for those who must know whether all changes are in the rows. */
  get work(): Pick<SlicedLoop, 'isBusy' | 'onIdle'> {
    return this.#loop;
  }

  /** Begins to compute the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    this.#serviceChanges = this.#options.services.observe();
    this.#sourceChanges = this.#options.masqueradeSources?.observe();
    this.#unsubscribes = [...this.#inputs(), this.#options.apiServers].map((table) => table.onChange(() => this.#loop.wake()));
    this.#loop.wake();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    this.#loop.stop();
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#serviceChanges?.close();
    this.#sourceChanges?.close();
  }

  /** One message for each Service CIDR that is left out, because the datapath would drop packets to the API server. */
  problems(): string[] {
    return this.#refusedCIDRs.map(
      (cidr) =>
        `the Service CIDR ${cidr} contains the address of the API server, so packets to its unallocated addresses are not dropped: correct --service-cidr or the ServiceCIDR object`,
    );
  }

  /** One message for each Service CIDR that contains addresses of this node or of pods. */
  overlaps(): readonly string[] {
    return this.#overlaps;
  }

  #inputs(): Pick<TableView<never, unknown>, 'onChange' | 'initialized'>[] {
    const { services, nodes, serviceCIDRs, localAddresses, devices, masqueradeSources } = this.#options;
    return [services, nodes, serviceCIDRs, localAddresses, devices, masqueradeSources].filter((table) => table !== undefined);
  }

  *#work(): Steps {
    if (!this.#inputs().every((table) => table.initialized)) return;
    const touched = new Set<string>();
    while (!this.#takeChanges(touched)) yield;
    while (!this.#takeSources()) yield;
    for (const address of this.#reserve()) touched.add(address);
    const { host, gone } = this.#putComputed();
    for (const address of touched) {
      const obsolete = this.#putClusterIP(address);
      if (obsolete !== undefined) gone.push(obsolete);
      yield;
    }
    const before = this.#options.host.get(hostKey);
    if (before === undefined || !isSameHost(before, host)) this.#options.host.upsert(hostKey, host);
    for (const key of gone) {
      this.#options.ranges.delete(key);
      yield;
    }
    for (const mark of this.#markInitialized) mark();
  }

  /** Adds the addresses of changed Services. Returns true when nothing is left to take. */
  #takeChanges(touched: Set<string>): boolean {
    const changes = this.#serviceChanges?.take(TAKEN_CHANGES) ?? [];
    for (const { key, row } of changes) for (const address of this.#clusterIPs.set(key, row)) touched.add(address);
    return changes.length < TAKEN_CHANGES;
  }

  /** Counts removed source addresses. Returns true when nothing is left to take. */
  #takeSources(): boolean {
    const changes = this.#sourceChanges?.take(TAKEN_CHANGES) ?? [];
    this.#removedSources += changes.filter(({ row }) => row === undefined).length;
    return changes.length < TAKEN_CHANGES;
  }

  /** Computes the addresses that must not become ClusterIPs. Returns those that were added or removed. */
  #reserve(): ReadonlySet<string> {
    const { apiServers, services } = this.#options;
    const before = this.#noClusterIPs;
    this.#noClusterIPs = noClusterIPs(rowsOf(apiServers), services.get(kubernetesService));
    return before.symmetricDifference(this.#noClusterIPs);
  }

  /** Adds the members that desiredHost() returns. Returns the host row and the obsolete keys, which are deleted after all additions. */
  #putComputed(): { host: DesiredHost; gone: string[] } {
    const { nodes, serviceCIDRs, localAddresses, ranges, nodeName, settings, devices } = this.#options;
    const output = desiredHost({
      ...{ nodeName, settings, node: nodes.get(nodeName), clusterIPs: this.#clusterIPs.bounds() },
      localAddresses: rowsOf(localAddresses),
      ...{ serviceCIDRs: rowsOf(serviceCIDRs), noClusterIPs: this.#noClusterIPs, deviceRoles: devices && rolesOf(devices) },
      removedSources: this.#removedSources,
    });
    this.#refusedCIDRs = output.refusedCIDRs;
    this.#overlaps = output.overlaps;
    for (const [key, row] of output.ranges) if (ranges.get(key) === undefined) ranges.upsert(key, row);
    const gone = this.#computed.filter((key) => !output.ranges.has(key));
    this.#computed = [...output.ranges.keys()];
    return { host: output.host, gone };
  }

  /** Adds the address to the set clusterIP if it belongs there. Otherwise returns its key, which is obsolete. */
  #putClusterIP(address: string): string | undefined {
    const { ranges } = this.#options;
    const row: DesiredRange = { set: 'clusterIP', cidr: hostCidr(address) };
    const key = rangeKey(row);
    if (!this.#clusterIPs.has(address) || this.#noClusterIPs.has(address)) return key;
    if (ranges.get(key) === undefined) ranges.upsert(key, row);
    return undefined;
  }
}

const rowsOf = <Row>(table: TableView<string, Row>): Row[] => [...table.all()].map(([, row]) => row);

const rolesOf = (devices: TableView<number, DesiredDevice>): Set<DeviceRole> => new Set([...devices.all()].map(([, { role }]) => role));
