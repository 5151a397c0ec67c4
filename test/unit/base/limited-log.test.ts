// SPDX-License-Identifier: Apache-2.0
// The log lines of one kind are limited: the first ones are written, and then the number of the others.
import { expect, test } from 'vitest';
import { LOG_PERIOD_MS, LOGGED_LINES, limitedLog } from '../../../daemon/base/limited-log.ts';
import { FakeClock } from '../../support/fake-clock.ts';

function setup() {
  const clock = new FakeClock();
  const lines: string[] = [];
  const write = limitedLog<[string]>(clock, { write: (text) => lines.push(text), leftOut: (count) => lines.push(`${count} left out`) });
  return { clock, lines, write };
}

test('every line is written while they are few, and no line about left out ones', () => {
  const { clock, lines, write } = setup();
  for (let n = 0; n < LOGGED_LINES; n += 1) write(`line ${n}`);
  clock.advance(LOG_PERIOD_MS);
  expect(lines).toHaveLength(LOGGED_LINES);
  expect(lines.at(-1)).toBe(`line ${LOGGED_LINES - 1}`);
});

test('of ten thousand lines the first ones are written, and at the end of the period the number of the others', () => {
  const { clock, lines, write } = setup();
  for (let n = 0; n < 10_000; n += 1) write(`line ${n}`);
  expect(lines).toHaveLength(LOGGED_LINES);
  clock.advance(LOG_PERIOD_MS);
  expect(lines.slice(LOGGED_LINES)).toEqual([`${10_000 - LOGGED_LINES} left out`]);
  write('a line of the next period');
  expect(lines.at(-1)).toBe('a line of the next period');
  clock.advance(10 * LOG_PERIOD_MS);
  expect(lines).toHaveLength(LOGGED_LINES + 2);
});
