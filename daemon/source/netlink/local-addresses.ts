// SPDX-License-Identifier: Apache-2.0
// The node's own addresses as a table: read at start and after every netlink event. Loopback and link-local addresses are left out,
// because no Service is reachable on them. Writes only this table.
import { AddressMonitor, addresses } from '../../kernel/rtnetlink.ts';
import { addressText } from '../../model/address.ts';
import type { LocalAddress } from '../../model/host.ts';
import type { Table } from '../../table/table.ts';

/** 127.0.0.0/8, ::1, 169.254.0.0/16, fe80::/10. */
const isUnreachable = (text: string): boolean => /^(127\.|169\.254\.|::1$|fe[89ab])/.test(text);

export class LocalAddresses {
  readonly #table: Table<string, LocalAddress>;
  readonly #markInitialized: () => void;
  #monitor: AddressMonitor | undefined;

  constructor(table: Table<string, LocalAddress>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
  }

  start(): void {
    // Subscribe before reading: a change between the two calls is read twice, but never missed.
    this.#monitor = new AddressMonitor();
    this.#monitor.listen(() => this.#read());
    this.#read();
    this.#markInitialized();
  }

  stop(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  #read(): void {
    const present = new Map<string, LocalAddress>();
    for (const { address, ifindex } of addresses()) {
      const text = addressText(address);
      if (address.length > 0 && !isUnreachable(text)) present.set(text, { address: text, ifindex });
    }
    for (const [key] of [...this.#table.all()]) if (!present.has(key)) this.#table.delete(key);
    for (const [key, row] of present) if (this.#table.get(key)?.ifindex !== row.ifindex) this.#table.upsert(key, row);
  }
}
