// SPDX-License-Identifier: Apache-2.0
// Tests which devices get which source addresses when devices and addresses change.
import { expect, test } from 'vitest';
import type { NetworkDevice } from '../../../daemon/model/device.ts';
import { type MasqueradeSource, sourceKey } from '../../../daemon/model/masquerade.ts';
import { SourceController } from '../../../daemon/services/controller/source-controller.ts';
import { Table } from '../../../daemon/table/table.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';

function setup() {
  const scheduler = new ManualScheduler();
  const links = new Table<number, NetworkDevice>('links', scheduler.schedule);
  const addresses = new Table<string, MasqueradeSource>('addresses', scheduler.schedule);
  const sources = new Table<string, MasqueradeSource>('sources', scheduler.schedule);
  const marks = [links.registerSource('test'), addresses.registerSource('test')];
  const controller = new SourceController({ links, addresses, sources });
  const link = (ifindex: number, kind: string, master = 0): void =>
    links.upsert(ifindex, {
      ...{ ifindex, name: `if${ifindex}`, kind, master, linkHeader: 'ethernet', isLoopback: false, hasPeerElsewhere: false, appearance: 1 },
      address: '',
    });
  const address = (ifindex: number, cidr: string, text: string): void => {
    const row = { ifindex, cidr, address: text };
    addresses.upsert(sourceKey(row), row);
  };
  const rows = (): string[] => {
    scheduler.flush();
    return [...sources.all()].map(([key, row]) => `${key} ${row.address}`).sort();
  };
  const listed = (): void => {
    for (const mark of marks) mark();
  };
  return { controller, links, addresses, sources, link, address, rows, listed };
}

test('nothing is written before both tables are complete', () => {
  const { controller, link, address, rows, listed, sources } = setup();
  link(2, '');
  address(2, '0.0.0.0/0', '10.0.0.1');
  controller.start();
  expect([rows(), sources.initialized]).toEqual([[], false]);
  listed();
  expect([rows(), sources.initialized]).toEqual([['2 0.0.0.0/0 10.0.0.1'], true]);
});

test('a port of a bridge has the addresses of the bridge, and a port of another master has none', () => {
  const { controller, links, addresses, link, address, rows, listed } = setup();
  link(2, 'bridge');
  link(3, 'veth', 2);
  link(4, 'bond');
  link(5, '', 4);
  address(2, '0.0.0.0/0', '10.244.1.254');
  address(4, '0.0.0.0/0', '10.0.0.1');
  controller.start();
  listed();
  expect(rows()).toEqual(['2 0.0.0.0/0 10.244.1.254', '3 0.0.0.0/0 10.244.1.254', '4 0.0.0.0/0 10.0.0.1']);
  // Another port is added, the address of the bridge changes, and the first port leaves the bridge.
  link(6, 'veth', 2);
  address(2, '0.0.0.0/0', '10.244.1.1');
  link(3, 'veth');
  expect(rows()).toEqual(['2 0.0.0.0/0 10.244.1.1', '4 0.0.0.0/0 10.0.0.1', '6 0.0.0.0/0 10.244.1.1']);
  addresses.delete('2 0.0.0.0/0');
  links.delete(4);
  expect(rows()).toEqual(['4 0.0.0.0/0 10.0.0.1']);
  controller.stop();
  addresses.delete('4 0.0.0.0/0');
  expect(rows()).toEqual(['4 0.0.0.0/0 10.0.0.1']);
});
