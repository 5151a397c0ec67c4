// SPDX-License-Identifier: Apache-2.0
// The parts of RESULTS.md. Each benchmark command replaces its own part and must not change the other parts.
import { expect, test } from 'vitest';
import { partsOf, textOf } from '../../bench/report.ts';

const main = '# Bench results\n\n| a |\n';
const scale = '## At scale\n\n| b |\n';
const large = '## Large clusters\n\n| d |\n';
const earlier = '## Earlier\n\nBefore.\n';

test.for([
  { name: 'all four', text: `${main}\n${scale}\n${large}\n${earlier}` },
  { name: 'without the part at scale', text: `${main}\n${earlier}` },
  { name: 'only the first part', text: main },
])('splitting and joining a report gives the same text: $name', ({ text }) => {
  expect(textOf(partsOf(text))).toBe(text);
});

test('a new part of the report is inserted between the others', () => {
  expect(textOf({ ...partsOf(`${main}\n${earlier}`), scale })).toBe(`${main}\n${scale}\n${earlier}`);
});
