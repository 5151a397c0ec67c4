// SPDX-License-Identifier: Apache-2.0
// The network devices of this namespace as a table: listed at start, then updated by netlink events. Writes only this table. It
// does not decide how a device is used.
import { isDeepStrictEqual } from 'node:util';
import type { StatusPart } from '../../base/status-part.ts';
import { LinkMonitor, type Link, links } from '../../kernel/rtnetlink.ts';
import type { NetworkDevice } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

export class Links implements StatusPart {
  readonly #table: Table<number, NetworkDevice>;
  readonly #markInitialized: () => void;
  readonly #follower: Follower;
  #appearances = 0;

  constructor(table: Table<number, NetworkDevice>, options: Pick<FollowerOptions, 'clock' | 'log'>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
    this.#follower = new Follower({
      ...{ what: 'network devices', clock: options.clock, log: options.log },
      open: (onLost) => {
        const monitor = new LinkMonitor();
        monitor.listen((event) => (event.kind === 'new' ? this.#put(event.link) : this.#table.delete(event.ifindex)), onLost);
        return monitor;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the devices cannot be listed. */
  start(): void {
    this.#follower.start();
    this.#markInitialized();
  }

  /** The rows stay as they are. */
  stop(): void {
    this.#follower.stop();
  }

  /** Lists the devices again, in case events were lost. Never throws. */
  resync(): void {
    this.#follower.resync();
  }

  problems(): string[] {
    return this.#follower.problems();
  }

  #list(): void {
    const present = links();
    const indices = new Set(present.map(({ ifindex }) => ifindex));
    for (const [ifindex] of [...this.#table.all()]) if (!indices.has(ifindex)) this.#table.delete(ifindex);
    for (const link of present) this.#put(link);
  }

  #put(link: Link): void {
    const before = this.#table.get(link.ifindex);
    const row = deviceOf(link, before?.appearance ?? this.#appearances + 1);
    if (before === undefined) this.#appearances += 1;
    else if (isDeepStrictEqual(before, row)) return;
    this.#table.upsert(link.ifindex, row);
  }
}

/** The row of a device. Leaves out the MTU, which does not change the role of a device. */
export function deviceOf(link: Link, appearance: number): NetworkDevice {
  const { ifindex, name, kind, linkHeader, isLoopback, address, master, hasPeerElsewhere } = link;
  return { ifindex, name, kind, linkHeader, isLoopback, address, master, hasPeerElsewhere, appearance };
}
