// SPDX-License-Identifier: Apache-2.0
// The families for which routes depend on the source of a packet (`ip rule from`), as a table: read at start and after netlink events.
// Writes only this table.
import type { StatusPart } from '../../base/status-part.ts';
import { familiesWithSourceRules, RuleMonitor } from '../../kernel/source-rules.ts';
import { families, type Family } from '../../model/address.ts';
import type { SourceRules as Row } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

export class SourceRules implements StatusPart {
  readonly #table: Table<Family, Row>;
  readonly #markInitialized: () => void;
  readonly #follower: Follower;

  constructor(table: Table<Family, Row>, options: Pick<FollowerOptions, 'clock' | 'log'>) {
    this.#table = table;
    this.#markInitialized = table.registerSource('netlink');
    this.#follower = new Follower({
      ...{ what: 'routing rules', clock: options.clock, log: options.log },
      open: (onLost) => {
        const monitor = new RuleMonitor();
        monitor.listen(() => this.#follower.resync(), onLost);
        return monitor;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the rules cannot be read. */
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
    const found = familiesWithSourceRules();
    for (const family of families) {
      if (!found.has(family)) this.#table.delete(family);
      else if (this.#table.get(family) === undefined) this.#table.upsert(family, { family });
    }
  }
}
