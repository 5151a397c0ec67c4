// SPDX-License-Identifier: Apache-2.0
// The address sets and the host row in the maps: map pressure, entries that the next process takes over, and repair of drift,
// also while rows are added and deleted.
import { describe, expect, test } from 'vitest';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { AddressSetNumber } from '../../../daemon/maps/types.ts';
import { type DesiredHost, type DesiredRange, rangeKey } from '../../../daemon/model/frontend.ts';
import { Table } from '../../../daemon/table/table.ts';
import { AddressSetOperations } from '../../../daemon/services/apply/address-set-operations.ts';
import { HostOperations } from '../../../daemon/services/apply/host-operations.ts';

const host: DesiredHost = {
  ...{ nodeAddresses: { IPv4: '192.168.0.1' }, podDetection: { IPv4: 'none', IPv6: 'none' } },
  ...{ masqueradeAll: false, clusterRange: {}, hasTc: { pods: true, node: true }, snatPorts: [{ first: 1024, last: 2047 }] },
  ...{ forwardMark: 0x4000, removedSources: 0 },
};
const clusterIP = (cidr: string): DesiredRange => ({ set: 'clusterIP', cidr });
const low = clusterIP('10.96.0.1/32');
const high = clusterIP('10.96.0.9/32');
const six = clusterIP('fd00:96::1/128');

function setup(...rows: DesiredRange[]) {
  const maps = fakeLbMaps({ frontends: 8, services: 8, slots: 8, backends: 8 });
  const operations = new AddressSetOperations(maps);
  operations.restore();
  for (const row of rows) operations.update(row);
  const entries = (): string[] => [...maps.ranges.IPv4.entries()].map(({ address, prefix }) => `${address}/${prefix - 32}`).toSorted();
  const remove = (address: string): void => maps.ranges.IPv4.remove({ prefix: 64, set: AddressSetNumber.clusterIP, address });
  return { maps, operations, entries, remove };
}

test('the map pressure is reported for the LPM tries of both families', () => {
  const { operations } = setup(low, high, six);
  expect(operations.pressure().map(({ map, used }) => `${map} ${used}`)).toEqual(['lb4_ranges 2', 'lb6_ranges 1']);
  operations.delete(rangeKey(low));
  expect(operations.pressure().map(({ used }) => used)).toEqual([1, 1]);
});

test('the next process takes over existing entries and prunes entries that are not desired', () => {
  const { maps, entries } = setup(low, high);
  const next = new AddressSetOperations(maps);
  next.restore();
  const table = new Table<string, DesiredRange>('address-sets', () => undefined);
  table.upsert(rangeKey(high), high);
  maps.writes.splice(0);
  for (const [, row] of table.all()) next.update(row);
  expect(maps.writes).toEqual([]);
  expect(next.prune(table)).toBe(true);
  expect(entries()).toEqual(['10.96.0.9/32']);
});

describe('repair', () => {
  test('the repair adds missing entries and removes entries that are not desired', () => {
    const { maps, operations, entries, remove } = setup(low, high);
    remove('10.96.0.1');
    maps.ranges.IPv4.add({ prefix: 64, set: AddressSetNumber.clusterIP, address: '10.96.0.77' });
    expect([...operations.repair()].flat()).toEqual([
      'lb4_ranges: entry clusterIP 10.96.0.1/32 was missing',
      'lb4_ranges: entry clusterIP 10.96.0.77/32 was not desired',
    ]);
    expect(entries()).toEqual(['10.96.0.1/32', '10.96.0.9/32']);
    expect([...operations.repair()]).toEqual([]);
  });

  test('the repair ignores rows that are added or deleted while it is paused', () => {
    const { operations, entries, remove } = setup(low, high);
    remove('10.96.0.1');
    const walk = operations.repair();
    const first = walk.next().value;
    operations.update(clusterIP('10.96.0.5/32'));
    operations.delete(rangeKey(high));
    expect([first, ...walk].flat()).toEqual(['lb4_ranges: entry clusterIP 10.96.0.1/32 was missing']);
    expect(entries()).toEqual(['10.96.0.1/32', '10.96.0.5/32']);
  });

  test('the repair reports nothing of its own when many rows change while it compares', () => {
    const rows = Array.from({ length: 300 }, (_, i) => clusterIP(`10.96.${i >> 8}.${i & 255}/32`));
    const { maps, operations, entries } = setup(...rows.slice(0, 200));
    maps.writes.splice(0);
    let steps = 0;
    for (const messages of operations.repair()) {
      expect(messages).toEqual([]);
      // Deletes rows at both ends of the list, and adds rows.
      for (const index of [steps, 199 - steps]) operations.delete(rangeKey(rows[index] ?? low));
      operations.update(rows[200 + steps] ?? low);
      steps += 1;
    }
    expect(steps).toBeGreaterThan(5);
    expect(entries()).toHaveLength(200 - steps);
  });

  test('the repair keeps an entry that became desired after it began', () => {
    const { maps, operations, entries, remove } = setup(low, high);
    maps.ranges.IPv4.add({ prefix: 64, set: AddressSetNumber.clusterIP, address: '10.96.0.5' });
    remove('10.96.0.1');
    const walk = operations.repair();
    walk.next();
    operations.update(clusterIP('10.96.0.5/32'));
    expect([...walk]).toEqual([]);
    expect(entries()).toEqual(['10.96.0.1/32', '10.96.0.5/32', '10.96.0.9/32']);
  });
});

test('the host row is written once, and is repaired when another program changes it', () => {
  const maps = fakeLbMaps();
  const operations = new HostOperations(maps, { netnsCookie: 1n, now: () => 0n });
  operations.restore();
  expect([...operations.repair()]).toEqual([]);
  operations.update(host);
  const written = maps.host.get(0);
  expect(written).toMatchObject({ address4: '192.168.0.1', netns: 1n, snatFirst: [1024, 0], snatCount: [1024, 0] });
  maps.host.set(0, { ...written, flags: 0 });
  expect([...operations.repair()]).toEqual([['lb_host: row was changed']]);
  expect(maps.host.get(0)).toEqual(written);
});

test('the host row has the time at which source addresses were last removed, in the unit of the datapath', () => {
  const maps = fakeLbMaps();
  let unit = 7n;
  const operations = new HostOperations(maps, { netnsCookie: 1n, now: () => (unit << 32n) + 5n });
  operations.restore();
  const written = (row: DesiredHost): number[] => {
    operations.update(row);
    const { forwardMark, sourcesChanged } = maps.host.get(0);
    return [forwardMark, sourcesChanged];
  };
  expect(written(host)).toEqual([0x4000, 7]);
  unit = 9n;
  expect(written({ ...host, masqueradeAll: true })).toEqual([0x4000, 7]);
  expect(written({ ...host, removedSources: 1 })).toEqual([0x4000, 9]);
  unit = 2n ** 32n + 3n;
  expect(written({ ...host, removedSources: 2 })).toEqual([0x4000, 3]);
  // The next daemon keeps the time, so that a restart writes nothing.
  const next = new HostOperations(maps, { netnsCookie: 1n, now: () => 99n << 32n });
  next.restore();
  next.update(host);
  expect(maps.host.get(0).sourcesChanged).toBe(3);
});

describe('the bounds of the cluster addresses', () => {
  const bounded = { ...host, clusterRange: { IPv4: { first: '10.96.0.0', last: '10.96.255.255' } } };
  const awaitsPorts = (maps: ReturnType<typeof fakeLbMaps>): HostOperations => {
    const operations = new HostOperations(maps, { netnsCookie: 1n, now: () => 0n }, { awaitsPorts: true });
    operations.restore();
    return operations;
  };
  const has = (maps: ReturnType<typeof fakeLbMaps>): boolean => maps.host.get(0).cluster4Last > 0n;

  test('in new maps they are withheld until the Service ports are applied, and the rest of the row is not', () => {
    const maps = fakeLbMaps();
    const operations = awaitsPorts(maps);
    operations.update(bounded);
    expect(maps.host.get(0)).toMatchObject({ address4: '192.168.0.1', snatFirst: [1024, 0] });
    operations.update({ ...bounded, masqueradeAll: true });
    expect(has(maps)).toBe(false);
    expect([...operations.repair()]).toEqual([]);
    operations.portsApplied();
    expect(has(maps)).toBe(true);
    operations.update(bounded);
    expect(has(maps)).toBe(true);
  });

  test('they are written at once if the Service ports are applied first, or if an earlier daemon has written them', () => {
    const maps = fakeLbMaps();
    const first = awaitsPorts(maps);
    first.portsApplied();
    first.update(bounded);
    expect(has(maps)).toBe(true);
    const second = awaitsPorts(maps);
    second.update(bounded);
    expect(has(maps)).toBe(true);
  });
});
