// SPDX-License-Identifier: Apache-2.0
// Tests that the tries of source addresses get what the table has: changes, a restart, rows that are gone, and repairs.
import { expect, test } from 'vitest';
import type { SourceMaps } from '../../../daemon/maps/types.ts';
import { type MasqueradeSource, sourceKey } from '../../../daemon/model/masquerade.ts';
import { SourceOperations } from '../../../daemon/services/apply/source-operations.ts';
import { Table } from '../../../daemon/table/table.ts';
import { fakeSourceMaps } from '../../support/fake-maps.ts';

const content = ({ IPv4, IPv6 }: SourceMaps): string[] =>
  [IPv4, IPv6]
    .flatMap((map) => map.entries())
    .map(([key, value]) => `${key.ifindex} ${key.address}/${key.prefix - 32} ${value.address}`)
    .sort();
const source = (cidr: string, address: string, ifindex = 2): MasqueradeSource => ({ ifindex, cidr, address });
const repaired = (operations: SourceOperations): string[] => [...operations.repair()].flat();

test('rows of both families are written, changed and deleted', () => {
  const kernel = fakeSourceMaps();
  const operations = new SourceOperations(kernel);
  operations.restore();
  for (const row of [source('10.0.0.0/24', '10.0.0.1'), source('0.0.0.0/0', '10.0.0.1'), source('::/0', 'fd00::1')]) operations.update(row);
  expect(content(kernel)).toEqual(['2 0.0.0.0/0 10.0.0.1', '2 10.0.0.0/24 10.0.0.1', '2 ::/0 fd00::1']);
  operations.update(source('10.0.0.0/24', '10.0.0.2'));
  operations.delete(sourceKey({ ifindex: 2, cidr: '::/0' }));
  operations.delete('9 ::/0');
  expect(content(kernel)).toEqual(['2 0.0.0.0/0 10.0.0.1', '2 10.0.0.0/24 10.0.0.2']);
});

test('after a restart, what no row wants is removed only by prune()', () => {
  const kernel = fakeSourceMaps();
  const before = new SourceOperations(kernel);
  for (const row of [source('0.0.0.0/0', '10.0.0.1'), source('0.0.0.0/0', '10.9.0.1', 7)]) before.update(row);
  const operations = new SourceOperations(kernel);
  operations.restore();
  const table = new Table<string, MasqueradeSource>('sources', () => undefined);
  table.upsert('2 0.0.0.0/0', source('0.0.0.0/0', '10.0.0.1'));
  expect(content(kernel)).toHaveLength(2);
  expect(operations.prune(table)).toBe(true);
  expect(content(kernel)).toEqual(['2 0.0.0.0/0 10.0.0.1']);
  expect(operations.freed()).toBe(1);
});

test('repair() restores entries that are missing or changed, removes others, and says so', () => {
  const kernel = fakeSourceMaps();
  const operations = new SourceOperations(kernel);
  operations.restore();
  operations.update(source('0.0.0.0/0', '10.0.0.1'));
  operations.update(source('10.0.0.0/24', '10.0.0.1'));
  expect(repaired(operations)).toEqual([]);
  kernel.IPv4.delete({ prefix: 32, ifindex: 2, address: '0.0.0.0' });
  kernel.IPv4.set({ prefix: 56, ifindex: 2, address: '10.0.0.0' }, { address: '10.0.0.66' });
  kernel.IPv4.set({ prefix: 32, ifindex: 8, address: '0.0.0.0' }, { address: '10.0.0.7' });
  expect(repaired(operations).sort()).toEqual([
    'lb4_sources: entry 2 0.0.0.0/0 was missing or changed',
    'lb4_sources: entry 2 10.0.0.0/24 was missing or changed',
    'lb4_sources: entry 8 0.0.0.0/0 was not desired',
  ]);
  expect(content(kernel)).toEqual(['2 0.0.0.0/0 10.0.0.1', '2 10.0.0.0/24 10.0.0.1']);
});
