// SPDX-License-Identifier: Apache-2.0
// The node's own addresses as a table: read at start and after netlink events. Loopback and link-local addresses are left out,
// because no Service is reachable on them. Writes only this table.
import type { StatusPart } from '../../base/status-part.ts';
import { AddressMonitor, addresses } from '../../kernel/rtnetlink.ts';
import { addressText } from '../../model/address.ts';
import type { LocalAddress } from '../../model/host.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

/** 127.0.0.0/8, ::1, 169.254.0.0/16, fe80::/10. */
const isUnreachable = (text: string): boolean => /^(127\.|169\.254\.|::1$|fe[89ab])/.test(text);

export class LocalAddresses implements StatusPart {
  readonly #table: Table<string, LocalAddress>;
  readonly #markInitialized: () => void;
  readonly #follower: Follower;

  constructor(table: Table<string, LocalAddress>, options: Pick<FollowerOptions, 'clock' | 'log'>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
    this.#follower = new Follower({
      ...{ what: 'addresses', clock: options.clock, log: options.log },
      open: (onLost) => {
        const monitor = new AddressMonitor();
        monitor.listen(() => this.#follower.resync(), onLost);
        return monitor;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the addresses cannot be listed. */
  start(): void {
    this.#follower.start();
    this.#markInitialized();
  }

  /** The rows stay as they are. */
  stop(): void {
    this.#follower.stop();
  }

  problems(): string[] {
    return this.#follower.problems();
  }

  #list(): void {
    const present = new Map<string, LocalAddress>();
    for (const { address, ifindex } of addresses()) {
      const text = addressText(address);
      if (address.length > 0 && !isUnreachable(text)) present.set(text, { address: text, ifindex });
    }
    for (const [key] of [...this.#table.all()]) if (!present.has(key)) this.#table.delete(key);
    for (const [key, row] of present) if (this.#table.get(key)?.ifindex !== row.ifindex) this.#table.upsert(key, row);
  }
}
