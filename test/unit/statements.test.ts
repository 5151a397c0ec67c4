// SPDX-License-Identifier: Apache-2.0
// Each statement number that code or a test cites must exist in part B of test/README.md (Service semantics). Citations come from
// the sources, from the names of tests and from the names of the packet cases. Whether a statement is true is checked by the tests
// that cite it, and not here.
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { semanticsCases } from '../support/semantics/cases.ts';

const root = join(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');

/** The numbers in order: "12" of a heading "### 12. ...", "6.4" of an item "- **6.4** ...", "5.2" of a row "| 5.2 | ...". */
const numbers = read('test/README.md')
  .split('\n')
  .flatMap((line) => {
    const [, section, item, row] = /^(?:### (\d+)\. |- \*\*(\d+\.\d+)\*\* |\| (\d+\.\d+) \| )/.exec(line) ?? [];
    return section ?? item ?? row ?? [];
  });
const statements = new Set(numbers);

const sources = globSync('{daemon,datapath,test}/**/*.{ts,h,c,txtar}', {
  cwd: root,
  exclude: ['**/gen/**', 'test/unit/statements.test.ts'],
});

const number = String.raw`\d{1,2}(?:\.\d+)?`;
const list = `${number}(?:(?:, and |, | and | to )${number})*`;
const citation = new RegExp(String.raw`(?:test/README\.md), (?:sections? )?(${list})(?![\d.]*\d)`, 'g');
/** The first words of a test's name: "6.4: ..." or "4.6, 3.2: ...". */
const title = new RegExp(String.raw`(?:\b(?:test|describe)(?:\.\w+)*|\))\(\s*['"\u0060](${list}): `, 'g');

/** The text in one line: each line break, with the comment mark at the start of the next line, becomes one space. */
const unwrapped = (text: string): string => text.replace(/\n\s*(?:\/\/|\*|#)?\s*/g, ' ');

const cited = (text: string, pattern: RegExp): string[] =>
  [...text.matchAll(pattern)].flatMap(([, found = '']) => found.split(/, and |, | and | to /));

/** The statement of a packet case: 5.2 for "5 row 2: ...", 7.1 for "7 1: ...", 8.3 for "8.3: ...", otherwise the section. */
function numberOfCase(name: string): string {
  const [, section = '', item] = /^(\d+)(?:\.| row | (?=\d))?(\d+)?/.exec(name) ?? [];
  return item === undefined ? section : `${section}.${item}`;
}

/** One message "FILE cites N" for each cited number N that no statement has. */
const missing = (file: string, found: readonly string[]): string[] =>
  [...new Set(found)].filter((each) => !statements.has(each)).map((each) => `${file} cites ${each}`);

test('the statements have numbers that are distinct and in order', () => {
  const inOrder = numbers.toSorted((a, b) => {
    const [[x = 0, y = 0], [p = 0, q = 0]] = [a, b].map((text) => text.split('.').map(Number)) as [number[], number[]];
    return x - p || y - q;
  });
  expect(numbers).toEqual(inOrder);
  expect(statements.size).toBe(numbers.length);
});

test('every cited statement exists', () => {
  const found = sources.flatMap((file) => missing(file, cited(unwrapped(read(file)), citation)));
  expect(found).toEqual([]);
});

test('every statement that a test name cites exists', () => {
  const found = sources.filter((file) => file.endsWith('.test.ts')).flatMap((file) => missing(file, cited(read(file), title)));
  expect(found).toEqual([]);
});

test('every statement in the name of a packet case exists', () => {
  expect(semanticsCases.flatMap(({ name }) => missing(`"${name}"`, [numberOfCase(name)]))).toEqual([]);
});

test.for([
  { text: 'as promised (test/README.md, 6.4).', want: ['6.4'] },
  { text: '// who serves (test/README.md, 4,\n// 5 and 6.3), 3 times', want: ['4', '5', '6.3'] },
  { text: ' * the walk (test/README.md,\n * 3.1 and 3.3)', want: ['3.1', '3.3'] },
  { text: 'the cases of test/README.md, sections 1 to 4: which', want: ['1', '4'] },
  { text: 'as test/README.md says, 5 times', want: [] },
])('citations are found in $text', ({ text, want }) => {
  expect(cited(unwrapped(text), citation)).toEqual(want);
});

test.for([
  { name: '5 row 2: usable only on other nodes', want: '5.2' },
  { name: '7 1: node hints go before zone hints', want: '7.1' },
  { name: '7 Local: local ready ones', want: '7' },
  { name: '8.3: a nil port name is skipped', want: '8.3' },
  { name: '14: dual stack', want: '14' },
])('the packet case "$name" cites the statement $want', ({ name, want }) => {
  expect(numberOfCase(name)).toBe(want);
});
