// SPDX-License-Identifier: Apache-2.0
// Finds in a JSON text what JSON.parse does not report: how deep the text is nested, whether a key occurs twice in an object, and where a
// value is. The time of every function is proportional to the length of the text. No function is recursive or throws an error. For a text
// that is not JSON, the results have no meaning, so callers must also call JSON.parse. Pure.

import { MAX_DEPTH } from '../base/nesting.ts';

export type Path = readonly (string | number)[];

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

export interface JsonFault {
  /** Index in the text. */
  readonly offset: number;
  readonly reason: string;
}

/** Index after the string that begins at `at`; the length of the text when the string does not end. */
function endOfString(text: string, at: number): number {
  for (let from = at + 1; ;) {
    const end = text.indexOf('"', from);
    if (end === -1) return text.length;
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes += 1;
    if (backslashes % 2 === 0) return end + 1;
    from = end + 1;
  }
}

/** The fault when the text is nested more than `most` levels deep. Call this function before JSON.parse. */
export function depthFault(text: string, most = MAX_DEPTH): JsonFault | undefined {
  let depth = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at) - 1;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
    if (depth > most) return { offset: at, reason: `is nested more than ${most} levels deep` };
  }
  return undefined;
}

/** What JSON.parse may have to hold, as numbers. It cannot be interrupted, and one byte of text can take a hundred bytes of memory. */
export interface JsonSize {
  readonly mostValues: number;
  /** Keys of one object. */
  readonly mostKeys: number;
}

/** The fault when the text has more values than a limit allows. To be called before JSON.parse. */
export function sizeFault(text: string, { mostValues, mostKeys }: JsonSize): JsonFault | undefined {
  /** The commas in each open object; undefined for an open list. */
  const open: (number | undefined)[] = [];
  let commas: number | undefined;
  let values = 0;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at) - 1;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      values += 1;
      open.push(commas);
      commas = code === OPEN_BRACE ? 0 : undefined;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) commas = open.pop();
    else if (code === COMMA) {
      values += 1;
      if (commas !== undefined) commas += 1;
    }
    if (values > mostValues) return { offset: at, reason: `contains more than ${mostValues} values` };
    if (commas !== undefined && commas >= mostKeys) return { offset: at, reason: `an object has more than ${mostKeys} keys` };
  }
  return undefined;
}

/** The first key that occurs twice in an object. JSON.parse would use the last value and forget the others. */
export function duplicateKey(text: string): { readonly offset: number; readonly key: string } | undefined {
  /** The keys of each open object; undefined for an open list. */
  const open: (Set<string> | undefined)[] = [];
  let keys: Set<string> | undefined;
  /** True if a string that begins now is a key. */
  let isKeyNext = false;
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(text, at);
      if (isKeyNext && keys !== undefined) {
        const key = stringAt(text, at, end);
        if (keys.has(key)) return { offset: at, key };
        keys.add(key);
        isKeyNext = false;
      }
      at = end - 1;
    } else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      open.push(keys);
      isKeyNext = code === OPEN_BRACE;
      keys = isKeyNext ? new Set() : undefined;
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      keys = open.pop();
      isKeyNext = false;
    } else if (code === COMMA) isKeyNext = keys !== undefined;
  }
  return undefined;
}

/** The value of the string between two indexes. Two texts of the same key may have different escape sequences. */
function stringAt(text: string, from: number, to: number): string {
  const inner = text.slice(from + 1, to - 1);
  if (!inner.includes('\\')) return inner;
  try {
    return JSON.parse(text.slice(from, to)) as string;
  } catch {
    return inner;
  }
}

/** A member of an object or an element of a list. */
interface Child {
  /** Position in the text at which the key of the member, or the element, starts. */
  readonly offset: number;
  readonly valueOffset: number;
}

/**
 * Finds values in one JSON text. The first look-up in an object or a list reads the text of this object or list once and remembers the
 * places of its members. 10,000 look-ups in a list therefore take no longer than reading the list.
 */
export class JsonPlaces {
  readonly #text: string;
  readonly #children = new Map<number, ReadonlyMap<string, Child>>();
  #lineStarts: number[] | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  /** Index of the key or element at the end of the path, or of the deepest one on the path that exists. */
  offsetOf(path: Path): number {
    let valueOffset = this.#skipBlanks(0);
    let offset = valueOffset;
    for (const segment of path) {
      const child = this.#childrenAt(valueOffset).get(String(segment));
      if (child === undefined) return offset;
      ({ offset, valueOffset } = child);
    }
    return offset;
  }

  /** Returns the number of line feeds before the offset. */
  lineAt(offset: number): number {
    this.#lineStarts ??= lineStartsOf(this.#text);
    let [low, high] = [0, this.#lineStarts.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#lineStarts[middle] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #childrenAt(start: number): ReadonlyMap<string, Child> {
    const known = this.#children.get(start);
    if (known !== undefined) return known;
    const code = this.#text.charCodeAt(start);
    const children =
      code === OPEN_BRACE || code === OPEN_BRACKET ? this.#readChildren(start, code === OPEN_BRACE) : new Map<string, Child>();
    this.#children.set(start, children);
    return children;
  }

  #readChildren(start: number, isObject: boolean): Map<string, Child> {
    const text = this.#text;
    const children = new Map<string, Child>();
    for (let at = this.#skipBlanks(start + 1); at < text.length; at = this.#skipBlanks(at + 1)) {
      const offset = at;
      const code = text.charCodeAt(at);
      if (code === CLOSE_BRACE || code === CLOSE_BRACKET) break;
      let key = String(children.size);
      if (isObject) {
        const end = endOfString(text, at);
        key = stringAt(text, at, end);
        at = this.#skipBlanks(end);
        if (text.charCodeAt(at) !== COLON) break;
        at = this.#skipBlanks(at + 1);
      }
      children.set(key, { offset, valueOffset: at });
      at = this.#skipBlanks(this.#endOfValue(at));
      if (text.charCodeAt(at) !== COMMA) break;
    }
    return children;
  }

  #endOfValue(start: number): number {
    const text = this.#text;
    let depth = 0;
    for (let at = start; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code === QUOTE) {
        at = endOfString(text, at) - 1;
        if (depth === 0) return at + 1;
      } else if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
      else if (depth === 0 && (code === COMMA || code === CLOSE_BRACE || code === CLOSE_BRACKET)) return at;
      else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
        depth -= 1;
        if (depth === 0) return at + 1;
      }
    }
    return text.length;
  }

  #skipBlanks(from: number): number {
    let at = from;
    while (at < this.#text.length && this.#text.charCodeAt(at) <= 0x20) at += 1;
    return at;
  }
}

/** The index of the character after each line feed of the text. */
function lineStartsOf(text: string): number[] {
  const starts: number[] = [];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}
