// SPDX-License-Identifier: Apache-2.0
// Makes text from outside safe to print: names, annotations, file names and messages of other programs may contain characters that
// control a terminal, forge a line of a log or reverse the order in which text is shown. Such a character becomes a visible escape
// sequence, and long text is cut. Every text for people passes through this file: tables and errors of `sluice`, errors of `sluiced`,
// and the log. Pure. It must never pass a control character on.

/** Maximum number of characters of one text that people read. A message needs less; a longer text hides the lines around it. */
export const MAX_TEXT = 1000;

/**
 * Maximum length of the JSON line of one log record. A longer line is shortened, text by text. Some log collectors split lines at 16 KiB.
 */
const MAX_LOG_LINE = 16_384;

/**
 * Control characters (C0, DEL and C1), format characters (these include all characters that change the direction of text), line and
 * paragraph separators, tag characters, and surrogates without a partner. A zero width joiner is allowed, because it is part of emoji and
 * of several scripts.
 */
const unsafe = /(?!\u{200d})[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u{e0000}-\u{e0fff}]/gu;
/**
 * The characters of `unsafe` except line feeds. In a JSON text, line feeds occur only between values, where they are part of the layout.
 */
const unsafeInJson = /(?![\u{200d}\n])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u{e0000}-\u{e0fff}]/u;
const allUnsafeInJson = new RegExp(unsafeInJson.source, 'gu');

/**
 * Match a text that needs no change. Almost every text matches, and these expressions are a hundred times faster than expressions with
 * Unicode properties.
 */
const plain = /^[\x20-\x7e]*$/;
const plainLines = /^[\n\x20-\x7e]*$/;

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return String.raw`\n`;
  if (character === '\r') return String.raw`\r`;
  if (character === '\t') return String.raw`\t`;
  if (code <= 0xff) return String.raw`\x${code.toString(16).padStart(2, '0')}`;
  return code <= 0xff_ff ? String.raw`\u${code.toString(16).padStart(4, '0')}` : String.raw`\u{${code.toString(16)}}`;
}

/** The text on one line, without characters that control a terminal, and cut after `max` characters. */
export function printable(text: string, max = MAX_TEXT): string {
  if (text.length <= max && plain.test(text)) return text;
  // The text is cut before it is examined, so that the cost does not depend on its length.
  return cut(text, max).replace(unsafe, escaped);
}

const cut = (text: string, max: number): string =>
  text.length <= max ? text : `${text.slice(0, max)}... (${text.length - max} more characters)`;

/** Like printable(), but keeps line feeds. For texts that this program has laid out, such as a stack trace. */
export const printableLines = (text: string, max = MAX_TEXT): string =>
  (text.length <= max ? text : `${text.slice(0, max)}\n...`)
    .split('\n')
    .map((line) => printable(line, max))
    .join('\n');

/** A copy of a plain value in which every text, including the keys of objects, is printable(). */
export function printableValue<T>(value: T, max = MAX_TEXT): T {
  const copy = (each: unknown, key: string): unknown => {
    if (typeof each === 'string') return key === 'stack' ? printableLines(each, 10 * max) : printable(each, max);
    if (Array.isArray(each)) return each.map((item) => copy(item, ''));
    if (typeof each !== 'object' || each === null) return each;
    return Object.fromEntries(Object.entries(each).map(([name, item]) => [printable(name, max), copy(item, name)]));
  };
  return copy(value, '') as T;
}

/** JSON text with the same meaning, in which no character controls a terminal. Line feeds and blanks between values stay. */
export function printableJson(json: string): string {
  if (plainLines.test(json)) return json;
  return unsafeInJson.test(json) ? json.replace(allUnsafeInJson, jsonEscape) : json;
}

/** \uXXXX for each code unit. JSON text contains these characters only within strings, so the text stays JSON. */
const jsonEscape = (character: string): string =>
  Array.from({ length: character.length }, (_, index) => String.raw`\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`).join(
    '',
  );

/** One line of the JSON log, with the same fields: safe to show on a terminal and of a limited length. */
export function printableLogLine(line: string): string {
  if (line.length <= MAX_LOG_LINE) return printableJson(line);
  try {
    return `${printableJson(JSON.stringify(shortened(JSON.parse(line))))}\n`;
  } catch {
    return line;
  }
}

function shortened(value: unknown): unknown {
  if (typeof value === 'string') return cut(value, MAX_TEXT);
  if (Array.isArray(value)) return value.slice(0, 100).map(shortened);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shortened(item)]));
}
