// SPDX-License-Identifier: Apache-2.0
// Texts from outside, such as names of objects, are printed on terminals and in the log. Whatever they contain, they must not start a
// new line and must not control the terminal.
import { Writable, type WritableOptions } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createLog } from '../../../daemon/base/log.ts';
import { MAX_TEXT, printable, printableJson, printableLogLine, printableValue } from '../../../daemon/base/printable.ts';

/** Characters that move the cursor, end a line, reverse the direction of text or are invisible. */
const dangerous = /[\p{Cc}\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/u;

const hostile = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      '\u001b[31m',
      '\u009b2J',
      '\r',
      '\n',
      '\t',
      '\u0007',
      '\u202e',
      '\u2066',
      '\u2028',
      '\u{e0041}',
      '\ud800',
      'é',
      '日本',
      '👩‍💻',
      '"',
      '\\',
    ),
    fc.string({ unit: 'binary', maxLength: 3 }),
  ),
});

describe('a text', () => {
  test.for([
    { text: 'web.default: 日本 é 👩‍💻', want: 'web.default: 日本 é 👩‍💻' },
    { text: '\u001b[31mred', want: String.raw`\x1b[31mred` },
    { text: 'a\u009bb', want: String.raw`a\x9bb` },
    { text: 'a\r\nb\tc', want: String.raw`a\r\nb\tc` },
    { text: 'a\u202eb', want: String.raw`a\u202eb` },
    { text: '\u{e0041}', want: String.raw`\u{e0041}` },
    { text: 'x'.repeat(MAX_TEXT + 5), want: `${'x'.repeat(MAX_TEXT)}... (5 more characters)` },
  ])('$want', ({ text, want }) => {
    expect(printable(text)).toBe(want);
  });

  test('printable() returns a text of limited length without control characters, whatever the input is', () => {
    fc.assert(
      fc.property(hostile, (text) => {
        const safe = printable(text, 50);
        expect(safe).not.toMatch(dangerous);
        expect(safe.length).toBeLessThan(50 * 9 + 40);
      }),
      { numRuns: 2000 },
    );
  });
});

test('every text and key in a value becomes printable, and the rest is unchanged', () => {
  const value = { a: ['\u001b', 5, null, { '\u202e': true }], b: undefined };
  expect(printableValue(value)).toEqual({ a: [String.raw`\x1b`, 5, null, { [String.raw`\u202e`]: true }], b: undefined });
});

test('printableJson() does not change the values of the JSON, whatever its texts and layout are', () => {
  fc.assert(
    fc.property(fc.dictionary(hostile, hostile), fc.constantFrom(undefined, 2), (value, indent) => {
      const json = JSON.stringify(value, undefined, indent);
      const safe = printableJson(json);
      expect(JSON.parse(safe)).toEqual(JSON.parse(json));
      expect(safe.replaceAll('\n', '')).not.toMatch(dangerous);
    }),
    { numRuns: 2000 },
  );
});

describe('a line of the log', () => {
  const collect = (): { stream: Writable; text: () => string } => {
    let text = '';
    const write: WritableOptions['write'] = (chunk: Buffer, _encoding, done) => {
      text += chunk.toString();
      done();
    };
    return { stream: new Writable({ write }), text: () => text };
  };
  const evil = 'a\u001b[2Jb\nINFO: forged\r\u202ec\u009b';

  test.for(['json', 'text'] as const)('a log line is one line without control characters, whatever it contains (%s)', async (logFormat) => {
    const { stream, text } = collect();
    const log = await createLog({ logLevel: 'info', logFormat }, stream);
    log.info({ [evil]: evil, nested: { list: [evil] }, err: new TypeError(evil) }, evil);
    const lines = text().trimEnd().split('\n');
    // The text format prints an unexpected error with its stack trace, which needs further lines.
    if (logFormat === 'json') expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('forged');
    expect(lines.filter((line) => line.startsWith('INFO'))).toEqual([]);
    for (const line of lines) expect(line).not.toMatch(dangerous);
    if (logFormat === 'json') expect(JSON.parse(text())).toMatchObject({ msg: evil, nested: { list: [evil] } });
  });

  test('a long log line is shortened, and stays JSON', () => {
    const line = `${JSON.stringify({ msg: 'x'.repeat(1e6), list: Array.from({ length: 1e5 }, () => 1), n: 5 })}\n`;
    const short = printableLogLine(line);
    expect(short.length).toBeLessThan(16_384);
    expect(JSON.parse(short)).toMatchObject({ n: 5 });
  });
});
