// SPDX-License-Identifier: Apache-2.0
// Computes the host row and the table of address sets from Services, Nodes, local addresses and ServiceCIDRs. ClusterIPs are
// updated one changed Service at a time. Everything else is small and is recomputed completely. Only rows that differ are written.
// It must not write before every source has completed its first list: incomplete input would withdraw addresses in use.
import { ClusterIPs } from '../desired/cluster-ips.ts';
import { kubernetesService, noClusterIPs } from '../desired/api-servers.ts';
import { desiredHost, isSameHost } from '../desired/desired-host.ts';
import { hostCidr } from '../../model/address.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import { type DesiredHost, type DesiredRange, hostKey, rangeKey } from '../../model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
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
  /** Written by this controller only, like `ranges`. Both tables are initialized by the first computation. */
  readonly host: Table<string, DesiredHost>;
  /** The members of the address sets, by rangeKey(). */
  readonly ranges: Table<string, DesiredRange>;
  /** Name of this node. */
  readonly nodeName: string;
  readonly settings: HostSettings;
}

export class HostController {
  readonly #options: HostControllerOptions;
  readonly #markInitialized: readonly (() => void)[];
  readonly #clusterIPs = new ClusterIPs();
  /** Keys of the members that the last call of desiredHost() returned. */
  #computed: readonly string[] = [];
  /** Addresses of the API server, which must not become ClusterIPs. */
  #noClusterIPs: ReadonlySet<string> = new Set();
  #refusedCIDRs: readonly string[] = [];
  #serviceChanges: Observer<string, Service> | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: HostControllerOptions) {
    this.#options = options;
    this.#markInitialized = [options.ranges, options.host].map((table) => table.registerSource('host-controller'));
  }

  /** Computes the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    this.#serviceChanges = this.#options.services.observe();
    this.#unsubscribes = [...this.#inputs(), this.#options.apiServers].map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Stops following the tables. The rows stay in the tables. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#serviceChanges?.close();
  }

  /** One message for each Service CIDR that is left out, because the datapath would drop packets to the API server. */
  problems(): string[] {
    return this.#refusedCIDRs.map(
      (cidr) =>
        `the Service CIDR ${cidr} contains the address of the API server, so packets to its unallocated addresses are not dropped: correct --service-cidr or the ServiceCIDR object`,
    );
  }

  #inputs(): Pick<TableView<string, unknown>, 'onChange' | 'initialized'>[] {
    const { services, nodes, serviceCIDRs, localAddresses } = this.#options;
    return [services, nodes, serviceCIDRs, localAddresses];
  }

  #run(): void {
    if (!this.#inputs().every((table) => table.initialized)) return;
    const touched = new Set<string>();
    for (const { key, row } of this.#serviceChanges?.take() ?? [])
      for (const address of this.#clusterIPs.set(key, row)) touched.add(address);
    for (const address of this.#reserve()) touched.add(address);
    const { host, gone } = this.#putComputed();
    gone.push(...this.#putClusterIPs(touched));
    const before = this.#options.host.get(hostKey);
    if (before === undefined || !isSameHost(before, host)) this.#options.host.upsert(hostKey, host);
    for (const key of gone) this.#options.ranges.delete(key);
    for (const mark of this.#markInitialized) mark();
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
    const { nodes, serviceCIDRs, localAddresses, ranges, nodeName, settings } = this.#options;
    const output = desiredHost({
      ...{ nodeName, settings, node: nodes.get(nodeName), clusterIPs: this.#clusterIPs.bounds() },
      localAddresses: rowsOf(localAddresses),
      ...{ serviceCIDRs: rowsOf(serviceCIDRs), noClusterIPs: this.#noClusterIPs },
    });
    this.#refusedCIDRs = output.refusedCIDRs;
    for (const [key, row] of output.ranges) if (ranges.get(key) === undefined) ranges.upsert(key, row);
    const gone = this.#computed.filter((key) => !output.ranges.has(key));
    this.#computed = [...output.ranges.keys()];
    return { host: output.host, gone };
  }

  /** Adds the members of the set clusterIP. Returns the obsolete keys. */
  #putClusterIPs(addresses: Iterable<string>): string[] {
    const { ranges } = this.#options;
    const gone: string[] = [];
    for (const address of addresses) {
      const row: DesiredRange = { set: 'clusterIP', cidr: hostCidr(address) };
      const key = rangeKey(row);
      if (!this.#clusterIPs.has(address) || this.#noClusterIPs.has(address)) gone.push(key);
      else if (ranges.get(key) === undefined) ranges.upsert(key, row);
    }
    return gone;
  }
}

const rowsOf = <Row>(table: TableView<string, Row>): Row[] => [...table.all()].map(([, row]) => row);
