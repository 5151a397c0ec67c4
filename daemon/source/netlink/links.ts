// SPDX-License-Identifier: Apache-2.0
// The network devices of this namespace as a table: listed at start, then updated by netlink events. Writes only this table. It
// does not decide how a device is used.
import { LinkMonitor, type Link, links } from '../../kernel/rtnetlink.ts';
import type { NetworkDevice } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';

export class Links {
  readonly #table: Table<number, NetworkDevice>;
  readonly #markInitialized: () => void;
  #monitor: LinkMonitor | undefined;
  #appearances = 0;

  constructor(table: Table<number, NetworkDevice>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
  }

  /** Throws KernelError when the devices cannot be listed. */
  start(): void {
    // Subscribe before listing: a device that appears between the two calls is reported twice, but never missed.
    this.#monitor = new LinkMonitor();
    this.#monitor.listen(
      (event) => (event.kind === 'new' ? this.#put(event.link) : this.#table.delete(event.ifindex)),
      () => this.resync(),
    );
    this.resync();
    this.#markInitialized();
  }

  /** The rows stay as they are. */
  stop(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  /** Lists the devices again, in case events were lost. */
  resync(): void {
    const present = links();
    const indices = new Set(present.map(({ ifindex }) => ifindex));
    for (const [ifindex] of [...this.#table.all()]) if (!indices.has(ifindex)) this.#table.delete(ifindex);
    for (const link of present) this.#put(link);
  }

  #put({ ifindex, name, kind, isEthernet }: Link): void {
    const before = this.#table.get(ifindex);
    if (before?.name === name && before.kind === kind && before.isEthernet === isEthernet) return;
    const appearance = before?.appearance ?? (this.#appearances += 1);
    this.#table.upsert(ifindex, { ifindex, name, kind, isEthernet, appearance });
  }
}
