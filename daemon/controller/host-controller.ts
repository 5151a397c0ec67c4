// SPDX-License-Identifier: Apache-2.0
// Drives desired-host: Services, Nodes, local addresses and ServiceCIDRs -> the table of HostRows. Computes the whole on
// every change and writes only what differs. Like its neighbour it writes nothing before every source has listed.
import { desiredHost, isSameHostRow } from '../desired/desired-host.ts';
import type { HostRow } from '../model/frontend.ts';
import type { HostSettings, LocalAddress } from '../model/host.ts';
import type { Node, Service, ServiceCIDR } from '../model/service.ts';
import type { Table, TableView } from '../model/table.ts';

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
  #unsubscribes: (() => void)[] = [];

  constructor(options: HostControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.host.registerSource('host-controller');
  }

  /** Computes what can be computed now, and again one tick after each change. */
  start(): void {
    this.#unsubscribes = this.#inputs().map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Rows stay as they are. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
  }

  #inputs(): Pick<TableView<string, unknown>, 'onChange' | 'initialized'>[] {
    const { services, nodes, serviceCIDRs, localAddresses } = this.#options;
    return [services, nodes, serviceCIDRs, localAddresses];
  }

  #run(): void {
    if (!this.#inputs().every((table) => table.initialized)) return;
    const { services, nodes, serviceCIDRs, localAddresses, host, nodeName, settings } = this.#options;
    const rows = desiredHost({
      ...{ nodeName, settings, node: nodes.get(nodeName) },
      localAddresses: rowsOf(localAddresses),
      services: rowsOf(services),
      serviceCIDRs: rowsOf(serviceCIDRs),
    });
    for (const [key, row] of rows) {
      const before = host.get(key);
      if (before === undefined || !isSameHostRow(before, row)) host.upsert(key, row);
    }
    for (const [key] of [...host.all()]) if (!rows.has(key)) host.delete(key);
    this.#markInitialized();
  }
}

const rowsOf = <Row>(table: TableView<string, Row>): Row[] => [...table.all()].map(([, row]) => row);
