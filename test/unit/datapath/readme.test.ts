// SPDX-License-Identifier: Apache-2.0
// Compares the tables of datapath/README.md with the source: headers, maps, drop reasons. Reads files only.
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { DropReason } from '../../../daemon/maps/gen/layouts.ts';

const datapath = join(import.meta.dirname, '../../../datapath');
const readme = readFileSync(join(datapath, 'README.md'), 'utf8');

/** The cells of each row of the first table under a heading. */
function table(heading: string): string[][] {
  const section = readme.split(/^## /m).find((text) => text.startsWith(heading)) ?? expect.fail(`no section ${heading}`);
  const lines = section.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** The words of a table cell that are in backquotes. */
const names = (cell: string | undefined): string[] => [...(cell ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? '');

test('every header has one row in the README', () => {
  const headers = globSync('lib/*.h', { cwd: datapath }).map((path) => basename(path));
  expect(
    table('The headers')
      .flatMap(([header]) => names(header))
      .toSorted(),
  ).toEqual(headers.toSorted());
});

test('every map has one row in the README, with its type', () => {
  const source = readFileSync(join(datapath, 'lib/maps.h'), 'utf8');
  const maps = [...source.matchAll(/BPF_MAP_TYPE_(\w+)\);(?:[^}]*)\} (\w+) SEC/g)].map(
    ([, type, name]) => `${name === 'SCRATCH' ? 'lb_scratch' : name} ${type}`,
  );
  const rows = table('The maps').flatMap(([map, type]) => names(map).map((name) => `${name} ${type}`));
  expect(maps.length).toBeGreaterThan(20);
  expect(rows.toSorted()).toEqual(maps.toSorted());
});

test('every drop reason has one row in the README, in the order of enum drop_reason', () => {
  const reasons = Object.keys(DropReason).map((name) => name.replace('DROP_', ''));
  expect(table('Drop reasons').map(([reason]) => reason)).toEqual(reasons.filter((name) => name !== 'NONE' && name !== 'REASONS'));
});
