// SPDX-License-Identifier: Apache-2.0
// Decoders of JSON that arrives in pieces. For every split of a list or a watch, they return the result of JSON.parse for the
// complete text.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LineDecoder, ListDecoder } from '../../../daemon/source/kubernetes/json-stream.ts';

/** The bytes, split at these places. */
function splitAt(bytes: Buffer, places: readonly number[]): Buffer[] {
  const sorted = [...new Set([0, ...places.map((place) => place % (bytes.length + 1)), bytes.length])].toSorted((a, b) => a - b);
  return sorted.slice(1).map((end, i) => Buffer.from(bytes.subarray(sorted[i], end)));
}

/** The result of the decoder. Each piece is overwritten after it was decoded, because network buffers are reused. */
function decodeList(pieces: readonly Buffer[]): { items: unknown[]; rest: unknown } {
  const decoder = new ListDecoder();
  const items = pieces.flatMap((piece) => {
    const found = decoder.push(piece);
    piece.fill(0x7b);
    return found;
  });
  return { items, rest: decoder.end() };
}

function decodeLines(pieces: readonly Buffer[]): string[] {
  const decoder = new LineDecoder();
  return pieces.flatMap((piece) => {
    const found = decoder.push(piece);
    piece.fill(0x0a);
    return found;
  });
}

const difficultText = fc.oneof(
  fc.constantFrom('items', '"', '\\', '\\"', '{', '}', '[', ']', ',', '"items":[{', '}]}', '\n', 'é', '日本', '😀', '\u0000', '__proto__'),
  fc.string({ unit: 'binary' }),
);
/**
 * Keys for random objects. A key of one character must not be a character that JSON escapes, because of a bug in V8 14.6: after
 * JSON.parse has parsed `{"a":0,"\\":0}`, it may return the same object for `{"a":0,"\n":0}`. Kubernetes objects do not have such
 * keys.
 */
const key = difficultText.filter((text) => text.length !== 1 || JSON.stringify(text) === `"${text}"`);
const value = fc.letrec<{ value: unknown; object: Record<string, unknown> }>((tie) => ({
  object: fc.dictionary(fc.oneof(key, fc.constant('items')), tie('value'), { maxKeys: 4 }),
  value: fc.oneof(
    { depthSize: 'small' },
    difficultText,
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.array(tie('value'), { maxLength: 3 }),
    tie('object'),
  ),
})).object;
const notItems = fc.dictionary(
  key.filter((text) => text !== 'items'),
  value,
  { maxKeys: 4 },
);
const list = fc.record({ before: notItems, items: fc.array(value, { maxLength: 6 }), behind: notItems });
const blanks = fc.constantFrom(undefined, 1, '\t', '\r\n');
const places = fc.array(fc.nat(), { maxLength: 60 });

describe('a list', () => {
  test('a list with any content and layout that arrives in any pieces is decoded as JSON.parse decodes it', () => {
    fc.assert(
      fc.property(list, blanks, places, ({ before, items, behind }, indent, cuts) => {
        const text = JSON.stringify({ ...before, items, ...behind }, null, indent);
        const { items: want, ...rest } = JSON.parse(text) as { items: unknown[] };
        expect(decodeList(splitAt(Buffer.from(text), cuts))).toEqual({ items: want, rest: { ...rest, items: [] } });
      }),
      { numRuns: 2000 },
    );
  });

  test('a list is decoded if it arrives in two pieces, whatever their sizes are, or in pieces of one byte', () => {
    const raw = {
      kind: 'ServiceList',
      note: 'a "quoted" [{"items":[{}]}] \\',
      metadata: { resourceVersion: '5', items: [{ not: 'ours' }] },
      items: [{ a: 'é}{"\\' }, {}, { items: [{ b: [1, { c: '日本' }] }], d: '\\\\' }],
      behind: [{ e: 1 }, [2]],
    };
    const bytes = Buffer.from(JSON.stringify(raw));
    const want = { items: raw.items, rest: { ...raw, items: [] } };
    for (let place = 0; place <= bytes.length; place += 1) expect(decodeList(splitAt(bytes, [place]))).toEqual(want);
    expect(decodeList(splitAt(bytes, [...bytes.keys()]))).toEqual(want);
  });

  test.for([
    { name: 'no items', text: '{"kind":"List","metadata":{}}', items: [] },
    { name: 'items that are null', text: '{"items":null,"metadata":{}}', items: [] },
    { name: 'items that are empty', text: '{"items":[ ],"metadata":{}}', items: [] },
    { name: 'items that are something else', text: '{"items":{"a":[{}]},"b":[{"c":1}]}', items: [] },
    { name: 'a value "items" before a list', text: '{"a":"items","b":[{"c":1}]}', items: [] },
    { name: 'a key that only ends in items', text: String.raw`{"\"items":[{"c":1}],"x\\items":[{}]}`, items: [] },
    { name: 'items in the first item', text: '{"items":[{"items":[{}]}]}', items: [{ items: [{}] }] },
    { name: 'items in a nested object', text: '{"x":{"items":[{"a":1}]}}', items: [] },
    { name: 'an array at the top level', text: '[[{"a":1}]]', items: [] },
  ])('only the items of the list itself are decoded as items: $name', ({ text, items }) => {
    const found = decodeList(splitAt(Buffer.from(text), [...Buffer.from(text).keys()]));
    expect(found.items).toEqual(items);
    const { rest } = found as { rest: { items?: unknown } };
    expect(items.length > 0 ? { ...rest, items } : rest).toEqual(JSON.parse(text));
  });

  test('a list that is truncated anywhere causes an error at its end', () => {
    const bytes = Buffer.from(JSON.stringify({ items: [{ a: '}' }, { b: [] }], metadata: { resourceVersion: '5' } }));
    for (let length = 0; length < bytes.length; length += 1) {
      const decoder = new ListDecoder();
      decoder.push(bytes.subarray(0, length));
      expect(() => decoder.end(), String(length)).toThrow(SyntaxError);
    }
  });

  test.for(['}}}]]]', '{"items":[{"a":}]}', '{"items":[{]}]}', '<html>"</html>', '{"items":[{}]}{"items":[{}]}', '', '\u0000'])(
    'a malformed list causes a SyntaxError: %s',
    (text) => {
      expect(() => decodeList([Buffer.from(text)])).toThrow(SyntaxError);
    },
  );

  test('a list of any bytes is decoded or causes a SyntaxError', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
        try {
          decodeList([Buffer.from('{"items":['), ...pieces.map((piece) => Buffer.from(piece))]);
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      }),
    );
  });
});

describe('lines', () => {
  test('a text that arrives in any pieces is decoded into its lines', () => {
    fc.assert(
      fc.property(fc.array(difficultText.map((text) => text.replaceAll('\n', ''))), difficultText, places, (texts, behind, cuts) => {
        const whole = Buffer.from(texts.map((text) => `${text}\n`).join('') + behind.replaceAll('\n', ''));
        const want = whole.toString().split('\n').slice(0, -1);
        expect(decodeLines(splitAt(whole, cuts))).toEqual(want.filter((line) => line !== ''));
      }),
      { numRuns: 2000 },
    );
  });

  test('lines are returned as soon as their line feed arrives', () => {
    const decoder = new LineDecoder();
    expect([decoder.push(Buffer.from('a\nb')), decoder.push(Buffer.from('c')), decoder.push(Buffer.from('\n'))]).toEqual([
      ['a'],
      [],
      ['bc'],
    ]);
  });
});
