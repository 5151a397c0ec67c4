// SPDX-License-Identifier: Apache-2.0
// Drives desired-host: Services, Nodes, local addresses and ServiceCIDRs -> the table of HostRows. ClusterIPs are taken one
// changed Service at a time; the rest, which is small, is computed whole. Only rows that differ are written. Like its
// neighbour it writes nothing before every source has listed.
import { ClusterIPs } from '../desired/cluster-ips.ts';
import { desiredHost, isSameHostRow } from '../desired/desired-host.ts';
import { hostCidr } from '../../model/address.ts';
import { type DesiredRange, type HostRow, rangeKey } from '../../model/frontend.ts';
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
  /** Written by this controller only; it becomes initialized with the first compute. */
  readonly host: Table<string, HostRow>;
  /** This node. */
  readonly nodeName: string;
  readonly settings: HostSettings;
}

export class HostController {
  readonly #options: HostControllerOptions;
  readonly #markInitialized: () => void;
  readonly #clusterIPs = new ClusterIPs();
  /** Keys of the rows that desired-host made last. */
  #rest: readonly string[] = [];
  #serviceChanges: Observer<string, Service> | undefined;
  #unsubscribes: (() => void)[] = [];

  constructor(options: HostControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.host.registerSource('host-controller');
  }

  /** Computes what can be computed now, and again one tick after each change. */
  start(): void {
    this.#serviceChanges = this.#options.services.observe();
    this.#unsubscribes = this.#inputs().map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Rows stay as they are. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
    this.#serviceChanges?.close();
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
    const gone = [...this.#putRest(), ...this.#putClusterIPs(touched)];
    for (const key of gone) this.#options.host.delete(key);
    this.#markInitialized();
  }

  /** Both return the keys that are no longer wanted: additions go first. */
  #putRest(): string[] {
    const { nodes, serviceCIDRs, localAddresses, host, nodeName, settings } = this.#options;
    const rows = desiredHost({
      ...{ nodeName, settings, node: nodes.get(nodeName), clusterIPs: this.#clusterIPs.bounds() },
      localAddresses: rowsOf(localAddresses),
      serviceCIDRs: rowsOf(serviceCIDRs),
    });
    for (const [key, row] of rows) {
      const before = host.get(key);
      if (before === undefined || !isSameHostRow(before, row)) host.upsert(key, row);
    }
    const gone = this.#rest.filter((key) => !rows.has(key));
    this.#rest = [...rows.keys()];
    return gone;
  }

  #putClusterIPs(addresses: Iterable<string>): string[] {
    const { host } = this.#options;
    const gone: string[] = [];
    for (const address of addresses) {
      const row: DesiredRange = { set: 'clusterIP', cidr: hostCidr(address) };
      const key = rangeKey(row);
      if (!this.#clusterIPs.has(address)) gone.push(key);
      else if (host.get(key) === undefined) host.upsert(key, row);
    }
    return gone;
  }
}

const rowsOf = <Row>(table: TableView<string, Row>): Row[] => [...table.all()].map(([, row]) => row);
