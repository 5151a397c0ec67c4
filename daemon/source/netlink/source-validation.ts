// SPDX-License-Identifier: Apache-2.0
// The devices on which the kernel validates the source of packets strictly (rp_filter 1), as a table: read at start and after netlink
// events. Writes only this table.
import type { StatusPart } from '../../base/status-part.ts';
import { NetconfMonitor, strictDevices } from '../../kernel/source-validation.ts';
import type { StrictDevice } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

export class SourceValidation implements StatusPart {
  readonly #table: Table<number, StrictDevice>;
  readonly #markInitialized: () => void;
  readonly #follower: Follower;

  constructor(table: Table<number, StrictDevice>, options: Pick<FollowerOptions, 'clock' | 'log'>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
    this.#follower = new Follower({
      ...{ what: 'network settings', clock: options.clock, log: options.log },
      open: (onLost) => {
        const monitor = new NetconfMonitor();
        monitor.listen(() => this.#follower.resync(), onLost);
        return monitor;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the settings cannot be read. */
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
    const present = strictDevices();
    for (const [ifindex] of [...this.#table.all()]) if (!present.has(ifindex)) this.#table.delete(ifindex);
    for (const ifindex of present) if (this.#table.get(ifindex) === undefined) this.#table.upsert(ifindex, { ifindex });
  }
}
