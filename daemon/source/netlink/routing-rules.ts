// SPDX-License-Identifier: Apache-2.0
// The families with rules of policy routing that select packets (`ip rule`), as a table: read at start and after netlink events. Writes only
// this table.
import type { StatusPart } from '../../base/status-part.ts';
import { ruleFacts, RuleMonitor } from '../../kernel/routing-rules.ts';
import { families, type Family } from '../../model/address.ts';
import type { RoutingRules as Row } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';

const numbers = { IPv4: 2, IPv6: 10 } as const;

export class RoutingRules implements StatusPart {
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
    for (const family of families) {
      const { hasSelector, hasSource } = ruleFacts(numbers[family]);
      if (!hasSelector) this.#table.delete(family);
      else if (this.#table.get(family)?.hasSource !== hasSource) this.#table.upsert(family, { family, hasSource });
    }
  }
}
