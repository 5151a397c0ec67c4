// SPDX-License-Identifier: Apache-2.0
// What holds for every Service, in the maps: what is counted, what is taken over, and what is put back when somebody else
// writes there, while rows come and go.
import { describe, expect, test } from 'vitest';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { AddressSetNumber } from '../../../daemon/maps/types.ts';
import { type DesiredRange, hostKey, type HostRow, rangeKey } from '../../../daemon/model/frontend.ts';
import { Table } from '../../../daemon/table/table.ts';
import { HostOperations } from '../../../daemon/services/apply/host-operations.ts';

const facts = { netnsCookie: 1n, hasTc: { pods: true, node: true }, snatPorts: [{ first: 1024, last: 2047 }] };
const host: HostRow = {
  ...{ nodeAddresses: { IPv4: '192.168.0.1' }, podDetection: { IPv4: 'none', IPv6: 'none' } },
  ...{ masqueradeAll: false, clusterRange: {} },
};
const clusterIP = (cidr: string): DesiredRange => ({ set: 'clusterIP', cidr });
const low = clusterIP('10.96.0.1/32');
const high = clusterIP('10.96.0.9/32');
const six = clusterIP('fd00:96::1/128');

function setup(...rows: HostRow[]) {
  const maps = fakeLbMaps({ frontends: 8, services: 8, slots: 8, backends: 8 });
  const operations = new HostOperations(maps, facts);
  operations.restore();
  for (const row of [host, ...rows]) operations.update(row);
  const held = (): string[] => [...maps.ranges.IPv4.entries()].map(({ address, prefix }) => `${address}/${prefix - 32}`).toSorted();
  const lose = (address: string): void => maps.ranges.IPv4.remove({ prefix: 64, set: AddressSetNumber.clusterIP, address });
  return { maps, operations, held, lose };
}

test('pressure counts both tries', () => {
  const { operations } = setup(low, high, six);
  expect(operations.pressure().map(({ map, used }) => `${map} ${used}`)).toEqual(['lb4_ranges 2', 'lb6_ranges 1']);
  operations.delete(rangeKey(low));
  expect(operations.pressure().map(({ used }) => used)).toEqual([1, 1]);
});

test('the next process takes over what is there and prunes what nobody wants', () => {
  const { maps, held } = setup(low, high);
  const next = new HostOperations(maps, facts);
  next.restore();
  const table = new Table<string, HostRow>('host', () => undefined);
  for (const [key, row] of [[hostKey, host] as const, [rangeKey(high), high] as const]) table.upsert(key, row);
  maps.writes.splice(0);
  for (const [, row] of table.all()) if ('set' in row) next.update(row);
  expect(maps.writes).toEqual([]);
  expect(next.prune(table)).toBe(true);
  expect(held()).toEqual(['10.96.0.9/32']);
});

describe('repair', () => {
  test("what was lost, what is nobody's and a changed host row", () => {
    const { maps, operations, held, lose } = setup(low, high);
    lose('10.96.0.1');
    maps.ranges.IPv4.add({ prefix: 64, set: AddressSetNumber.clusterIP, address: '10.96.0.77' });
    maps.host.set(0, { ...maps.host.get(0), flags: 0 });
    expect([...operations.repair()].flat()).toEqual([
      'lb4_ranges: entry clusterIP 10.96.0.1/32 was missing',
      'lb4_ranges: entry clusterIP 10.96.0.77/32 was not desired',
      'lb_host: row was changed',
    ]);
    expect(held()).toEqual(['10.96.0.1/32', '10.96.0.9/32']);
    expect([...operations.repair()]).toEqual([]);
  });

  test("a row that comes or goes where the walk pauses is neither lost nor nobody's", () => {
    const { operations, held, lose } = setup(low, high);
    lose('10.96.0.1');
    const walk = operations.repair();
    const first = walk.next().value;
    operations.update(clusterIP('10.96.0.5/32'));
    operations.delete(rangeKey(high));
    expect([first, ...walk].flat()).toEqual(['lb4_ranges: entry clusterIP 10.96.0.1/32 was missing']);
    expect(held()).toEqual(['10.96.0.1/32', '10.96.0.5/32']);
  });

  test("what is nobody's and wanted by now stays", () => {
    const { maps, operations, held, lose } = setup(low, high);
    maps.ranges.IPv4.add({ prefix: 64, set: AddressSetNumber.clusterIP, address: '10.96.0.5' });
    lose('10.96.0.1');
    const walk = operations.repair();
    walk.next();
    operations.update(clusterIP('10.96.0.5/32'));
    expect([...walk]).toEqual([]);
    expect(held()).toEqual(['10.96.0.1/32', '10.96.0.5/32', '10.96.0.9/32']);
  });
});
