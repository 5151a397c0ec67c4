// SPDX-License-Identifier: Apache-2.0
// Decoders for JSON that arrives in pieces: a list is decoded item by item, and a watch line by line. Only one object is parsed at a time,
// so a list of 100 MB needs only the memory for one piece and one object. Called by list-watch.ts.

import { sizeText } from '../../base/bounded-read.ts';
import { MAX_DEPTH } from '../../base/nesting.ts';
import { depthFault } from '../json-text.ts';
import { MAX_FRAME_BYTES, MAX_OBJECT_BYTES } from './limits.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const LINE_FEED = 0x0a;

const bufferOf = (piece: Uint8Array): Buffer => Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);

/** The error when the server sends more than a limit allows. The message says what was too long, without the name of the resource. */
export class LimitError extends Error {
  override readonly name = 'LimitError';
}

/** Collects pieces of a text until the text is complete. Throws LimitError when the text becomes too long. */
class Pieces {
  readonly #maxBytes: number;
  readonly #what: string;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number, what: string) {
    this.#maxBytes = maxBytes;
    this.#what = what;
  }

  add(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#bytes += piece.length;
    if (this.#bytes > this.#maxBytes) throw new LimitError(`the server sent ${this.#what} of more than ${sizeText(this.#maxBytes)}`);
    // The piece is copied, because the stream owns it.
    this.#pieces.push(Buffer.from(piece));
  }

  take(): string {
    const text = Buffer.concat(this.#pieces).toString();
    this.#pieces = [];
    this.#bytes = 0;
    return text;
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0;
  }
}

const tooDeep = (): LimitError => new LimitError(`the server sent JSON that is nested more than ${MAX_DEPTH} levels deep`);

/** Decodes lines of text. A line without a line feed is not returned. */
export class LineDecoder {
  readonly #incomplete = new Pieces(MAX_OBJECT_BYTES, 'an event');

  /** The lines that end in this piece, without empty lines. Throws LimitError. */
  push(piece: Uint8Array): string[] {
    const buffer = bufferOf(piece);
    const lines: string[] = [];
    let from = 0;
    for (let at = buffer.indexOf(LINE_FEED); at !== -1; at = buffer.indexOf(LINE_FEED, from)) {
      const line = this.#incomplete.isEmpty ? buffer.toString('utf8', from, at) : this.#complete(buffer.subarray(from, at));
      if (line !== '') lines.push(line);
      from = at + 1;
    }
    this.#incomplete.add(buffer.subarray(from));
    return lines;
  }

  #complete(rest: Buffer): string {
    this.#incomplete.add(rest);
    return this.#incomplete.take();
  }
}

/** Maximum length of a line that is parsed without a check of its depth. A line of this length cannot be nested deeper than its length. */
const SHALLOW_CHARS = 16_384;

/** Parses one line of a watch. Throws SyntaxError and LimitError. */
export function parseLine(line: string): unknown {
  if (line.length > SHALLOW_CHARS && depthFault(line) !== undefined) throw tooDeep();
  return JSON.parse(line);
}

/** Decodes a Kubernetes List: the elements of "items", which are objects, and the fields around them. */
export class ListDecoder {
  /** The text of the list without its items. */
  readonly #outside = new Pieces(MAX_FRAME_BYTES, 'a list whose fields besides the items have a size');
  readonly #item = new Pieces(MAX_OBJECT_BYTES, 'an object');
  /** Number of open braces and brackets outside the items. */
  #depth = 0;
  #isInItems = false;
  #isInItem = false;
  /** Number of open braces and brackets of the item. */
  #itemDepth = 0;
  #isInString = false;
  /** True if the previous byte was a backslash. */
  #isEscaped = false;
  /** The last string at depth 1, undecoded: the key, if a value follows. */
  #key = '';

  /** The items that end in this piece, parsed. Throws SyntaxError and LimitError. */
  push(piece: Uint8Array): unknown[] {
    const buffer = bufferOf(piece);
    const items: unknown[] = [];
    for (let from = 0; from < buffer.length;) {
      const isItem = this.#isInItem;
      const end = isItem ? this.#endOfItem(buffer, from) : this.#endOfOutside(buffer, from);
      (isItem ? this.#item : this.#outside).add(buffer.subarray(from, end));
      if (isItem && !this.#isInItem) items.push(JSON.parse(this.#item.take()));
      // The commas between items are left out, so that the text outside the items is valid JSON.
      from = this.#isBetweenItems && buffer[end] === COMMA ? end + 1 : end;
    }
    return items;
  }

  /** Returns the list without its items, after the end of the text. Throws SyntaxError when the text is incomplete. */
  end(): unknown {
    return JSON.parse(this.#outside.take());
  }

  get #isBetweenItems(): boolean {
    return this.#isInItems && !this.#isInItem && this.#depth === 2;
  }

  /**
   * Index after the last brace of the item, or the length of the piece. It uses local variables for speed, because it processes
   * most bytes of a list.
   */
  #endOfItem(buffer: Buffer, from: number): number {
    let depth = this.#itemDepth;
    let isInString = this.#isInString;
    let isEscaped = this.#isEscaped;
    let at = from;
    for (; at < buffer.length; at += 1) {
      const byte = buffer[at];
      if (isInString) {
        if (isEscaped) isEscaped = false;
        else if (byte === QUOTE) isInString = false;
        else if (byte === BACKSLASH) isEscaped = true;
      } else if (byte === QUOTE) isInString = true;
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        depth += 1;
        if (depth > MAX_DEPTH) throw tooDeep();
      } else if ((byte === CLOSE_BRACE || byte === CLOSE_BRACKET) && (depth -= 1) === 0) break;
    }
    this.#itemDepth = depth;
    this.#isInString = isInString;
    this.#isEscaped = isEscaped;
    if (at === buffer.length) return at;
    this.#isInItem = false;
    return at + 1;
  }

  /** Index of the first brace of an item, of a comma between items, or the length of the piece. */
  #endOfOutside(buffer: Buffer, from: number): number {
    for (let at = from; at < buffer.length; at += 1) {
      const byte = buffer[at] ?? 0;
      if (this.#isInString) this.#string(byte);
      else if (this.#isBetweenItems && byte === COMMA) return at;
      else if (this.#isBetweenItems && byte === OPEN_BRACE) {
        this.#isInItem = true;
        return at;
      } else this.#structure(byte);
    }
    return buffer.length;
  }

  #string(byte: number): void {
    const isEnd = byte === QUOTE && !this.#isEscaped;
    if (isEnd) this.#isInString = false;
    else if (this.#depth === 1) this.#key += String.fromCharCode(byte);
    this.#isEscaped = byte === BACKSLASH && !this.#isEscaped;
  }

  #structure(byte: number): void {
    if (byte === QUOTE) {
      this.#isInString = true;
      if (this.#depth === 1) this.#key = '';
    } else if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (this.#depth === 1) this.#isInItems = byte === OPEN_BRACKET && this.#key === 'items';
      this.#depth += 1;
      if (this.#depth > MAX_DEPTH) throw tooDeep();
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      this.#depth -= 1;
      if (this.#depth === 1) this.#isInItems = false;
    }
  }
}
