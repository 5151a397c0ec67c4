// SPDX-License-Identifier: Apache-2.0
// The families with rules of policy routing that select packets (`ip rule`), as a table.
import { ruleFacts, RuleMonitor } from '../../kernel/routing-rules.ts';
import { families, type Family } from '../../model/address.ts';
import type { RoutingRules } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import type { FollowerOptions } from './follower.ts';
import { ListedTable } from './listed-table.ts';

/** AF_INET and AF_INET6. */
const numbers = { IPv4: 2, IPv6: 10 } as const;

function rows(): Map<Family, RoutingRules> {
  const found = families.map((family) => ({ family, ...ruleFacts(numbers[family]) }));
  return new Map(found.filter(({ hasSelector }) => hasSelector).map(({ family, hasSource }) => [family, { family, hasSource }]));
}

export const routingRules = (
  table: Table<Family, RoutingRules>,
  options: Pick<FollowerOptions, 'clock' | 'log'>,
): ListedTable<Family, RoutingRules> =>
  new ListedTable({
    ...{ table, what: 'routing rules', clock: options.clock, log: options.log },
    monitor: () => new RuleMonitor(),
    list: rows,
  });
