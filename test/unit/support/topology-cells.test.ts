// SPDX-License-Identifier: Apache-2.0
// Tests the rows of text by which the topology tests name cells: every set of cells can be written as rows, and rows that are wrong are
// rejected.
import { expect, test } from 'vitest';
import { cells, cellsOf, nameOf, rowsOf } from '../../topologies/cells.ts';

const sorted = (names: readonly string[]): string[] => names.toSorted();

test('rows name exactly the cells from which they were made, each once', () => {
  for (const step of [1, 2, 3, 7, 50]) {
    const some = cells.filter((_, n) => n % step === 0);
    const named = rowsOf(some).flatMap(cellsOf).map(nameOf);
    expect(sorted(named)).toEqual(sorted(some.map(nameOf)));
  }
});

test('one row names all cells', () => {
  expect(rowsOf(cells)).toEqual(['* | * | * | * | * | *']);
});

test('only the pod is its own backend, and the policy Local has backends of this node only', () => {
  expect(cellsOf('off | IPv4 | tcp | * | ClusterIP | own').map(({ from }) => from)).toEqual(['pod']);
  expect(cellsOf('off | IPv4 | tcp | node | NodePort-Local | *').map(({ backend }) => backend)).toEqual(['near', 'host']);
});

test.for([
  { row: '* | * | tcp', error: 'must have 6 fields' },
  { row: '* | * | sctp | * | * | *', error: '"sctp" is not a value of kind' },
  { row: '* | * | * | node | * | own', error: 'names no cell' },
])('a wrong row is rejected: $row', ({ row, error }) => {
  expect(() => cellsOf(row)).toThrow(error);
});
