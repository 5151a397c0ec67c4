// SPDX-License-Identifier: Apache-2.0
// A table that is equal to a short list from the kernel. Each netlink event causes a new reading of the whole list, and only the rows that
// differ are written. Writes only this table.
import { isDeepStrictEqual } from 'node:util';
import type { KernelError } from '../../base/errors.ts';
import type { StatusPart } from '../../base/status-part.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

interface Monitor {
  listen(onChange: () => void, onLost: (reason: KernelError) => void): void;
  close(): void;
}

export interface ListedTableOptions<K, V> extends Pick<FollowerOptions, 'what' | 'clock' | 'log'> {
  readonly table: Table<K, V>;
  /** Throws KernelError. */
  readonly monitor: () => Monitor;
  /** Throws KernelError, and then the table keeps its rows. */
  readonly list: () => ReadonlyMap<K, V>;
}

export class ListedTable<K, V> implements StatusPart {
  readonly #options: ListedTableOptions<K, V>;
  readonly #markInitialized: () => void;
  readonly #follower: Follower;

  constructor(options: ListedTableOptions<K, V>) {
    const { table, monitor, what, clock, log } = options;
    this.#options = options;
    this.#markInitialized = table.registerSource('netlink');
    this.#follower = new Follower({
      ...{ what, clock, log },
      open: (onLost) => {
        const opened = monitor();
        opened.listen(() => this.#follower.resync(), onLost);
        return opened;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the list cannot be read. */
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
    const { table, list } = this.#options;
    const present = list();
    for (const [key] of [...table.all()]) if (!present.has(key)) table.delete(key);
    for (const [key, row] of present) if (!isDeepStrictEqual(table.get(key), row)) table.upsert(key, row);
  }
}
