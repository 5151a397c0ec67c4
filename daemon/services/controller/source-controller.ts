// SPDX-License-Identifier: Apache-2.0
// Derives the source addresses of masqueraded packets for each device that packets leave by: the addresses of the device, and for a port
// of a bridge those of the bridge, since the stack routes to the bridge and the packet leaves by the port. Only rows that differ are
// written, and rows are written before others are deleted. It must never read the kernel: netlink/ fills the tables that it follows.
import type { NetworkDevice } from '../../model/device.ts';
import { type MasqueradeSource, sourceKey } from '../../model/masquerade.ts';
import type { Table, TableView } from '../../table/table.ts';

export interface SourceControllerOptions {
  readonly links: TableView<number, NetworkDevice>;
  /** The addresses of each device. Keyed by sourceKey(). */
  readonly addresses: TableView<string, MasqueradeSource>;
  /** Written by this controller only. */
  readonly sources: Table<string, MasqueradeSource>;
}

export class SourceController {
  readonly #options: SourceControllerOptions;
  readonly #markInitialized: () => void;
  #unsubscribes: (() => void)[] = [];

  constructor(options: SourceControllerOptions) {
    this.#options = options;
    this.#markInitialized = options.sources.registerSource('source-controller');
  }

  /** Computes the rows now, if the input is complete, and again one tick after each change. */
  start(): void {
    const { links, addresses } = this.#options;
    this.#unsubscribes = [links, addresses].map((table) => table.onChange(() => this.#run()));
    this.#run();
  }

  /** Stops following the tables. The rows stay in the table. */
  stop(): void {
    for (const unsubscribe of this.#unsubscribes.splice(0)) unsubscribe();
  }

  #run(): void {
    const { links, addresses, sources } = this.#options;
    if (!links.initialized || !addresses.initialized) return;
    const wanted = this.#wanted();
    for (const [key, row] of wanted) if (sources.get(key)?.address !== row.address) sources.upsert(key, row);
    for (const [key] of [...sources.all()]) if (!wanted.has(key)) sources.delete(key);
    this.#markInitialized();
  }

  #wanted(): Map<string, MasqueradeSource> {
    const { links, addresses } = this.#options;
    const wanted = new Map([...addresses.all()]);
    const byDevice = Map.groupBy(wanted.values(), ({ ifindex }) => ifindex);
    for (const [ifindex, { master }] of links.all()) {
      if (links.get(master)?.kind !== 'bridge') continue;
      for (const row of byDevice.get(master) ?? []) wanted.set(sourceKey({ ...row, ifindex }), { ...row, ifindex });
    }
    return wanted;
  }
}
