// SPDX-License-Identifier: Apache-2.0
// RESULTS.md in parts: each command replaces its own, and leaves the others as they are.
import { expect, test } from 'vitest';
import { partsOf, textOf } from '../../bench/report.ts';

const main = '# Bench results\n\n| a |\n';
const scale = '## At scale\n\n| b |\n';
const earlier = '## Earlier\n\nBefore.\n';

test.for([
  { name: 'all three', text: `${main}\n${scale}\n${earlier}` },
  { name: 'nothing at scale yet', text: `${main}\n${earlier}` },
  { name: 'the first part alone', text: main },
])('parts and whole: $name', ({ text }) => {
  expect(textOf(partsOf(text))).toBe(text);
});

test('a part that is new goes between the others', () => {
  expect(textOf({ ...partsOf(`${main}\n${earlier}`), scale })).toBe(`${main}\n${scale}\n${earlier}`);
});
