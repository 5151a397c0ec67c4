// SPDX-License-Identifier: Apache-2.0
// The thread that parses large texts has a lower priority than the event loop, which answers probes and applies changes.
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { expect, test } from 'vitest';
import { DocumentParser } from '../../../daemon/source/files/document-parser.ts';
import { FakeClock } from '../../support/fake-clock.ts';

/** The nice value of each thread of this process. Field 19 of stat; the name in field 2 may contain blanks. */
const niceValues = (): number[] =>
  readdirSync('/proc/self/task').flatMap((tid) => {
    try {
      const text = readFileSync(`/proc/self/task/${tid}/stat`, 'utf8');
      return [Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[16])];
    } catch {
      // The thread has ended.
      return [];
    }
  });
const lowered = (): number => niceValues().filter((nice) => nice >= 5 + getPriority()).length;

test('the parser thread has a lower priority, and no other thread has', async () => {
  const parser = new DocumentParser(new FakeClock());
  const before = lowered();
  const text = `{"kind":"List","items":[]${' '.repeat(40_000)}}`;
  const parsed = await parser.parse([text], true);
  expect(parsed.get(text)?.hasUnreadablePart).toBe(false);
  expect(lowered()).toBe(before + 1);
  await parser.close();
  expect(lowered()).toBe(before);
});
