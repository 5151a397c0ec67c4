// SPDX-License-Identifier: Apache-2.0
// The devices on which the kernel validates the source of packets strictly (rp_filter 1), as a table.
import { NetconfMonitor, strictDevices } from '../../kernel/source-validation.ts';
import type { StrictDevice } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';
import type { FollowerOptions } from './follower.ts';
import { ListedTable } from './listed-table.ts';

export const sourceValidation = (
  table: Table<number, StrictDevice>,
  options: Pick<FollowerOptions, 'clock' | 'log'>,
): ListedTable<number, StrictDevice> =>
  new ListedTable({
    ...{ table, what: 'network settings', clock: options.clock, log: options.log },
    monitor: () => new NetconfMonitor(),
    list: () => new Map([...strictDevices()].map((ifindex) => [ifindex, { ifindex }])),
  });
