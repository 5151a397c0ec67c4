// SPDX-License-Identifier: Apache-2.0
// JSON that arrives in pieces, decoded as it comes: the items of a list one by one, a watch line by line. What is parsed at
// once is one object, so that a list of 100 MB costs the memory of a piece of it.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const LINE_FEED = 0x0a;

const bufferOf = (piece: Uint8Array): Buffer => Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);

/** What is kept of pieces until it is whole. */
class Kept {
  #pieces: Buffer[] = [];

  add(piece: Buffer): void {
    if (piece.length > 0) this.#pieces.push(piece);
  }

  take(): string {
    const text = Buffer.concat(this.#pieces).toString();
    this.#pieces = [];
    return text;
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0;
  }
}

/** Lines of text. The last one counts only with its line feed. */
export class LineDecoder {
  readonly #kept = new Kept();

  /** The lines that this piece ends, without empty ones. */
  push(piece: Uint8Array): string[] {
    const buffer = bufferOf(piece);
    const lines: string[] = [];
    let from = 0;
    for (let at = buffer.indexOf(LINE_FEED); at !== -1; at = buffer.indexOf(LINE_FEED, from)) {
      const line = this.#kept.isEmpty ? buffer.toString('utf8', from, at) : this.#ended(buffer.subarray(from, at));
      if (line !== '') lines.push(line);
      from = at + 1;
    }
    // A copy: the piece belongs to the stream.
    this.#kept.add(Buffer.from(buffer.subarray(from)));
    return lines;
  }

  #ended(rest: Buffer): string {
    this.#kept.add(rest);
    return this.#kept.take();
  }
}

/** A Kubernetes List: the elements of its "items", which are objects, and what stands around them. */
export class ListDecoder {
  readonly #around = new Kept();
  readonly #item = new Kept();
  /** Of braces and brackets, around items. */
  #depth = 0;
  #isInItems = false;
  #isInItem = false;
  /** Open ones of the item. */
  #braces = 0;
  #isInString = false;
  /** A backslash was the byte before. */
  #isEscaped = false;
  /** The last string at depth 1 as it is written: the key, when a value follows. */
  #key = '';

  /** The items that this piece ends, parsed. Throws SyntaxError. */
  push(piece: Uint8Array): unknown[] {
    const buffer = bufferOf(piece);
    const items: unknown[] = [];
    for (let from = 0; from < buffer.length;) {
      const isItem = this.#isInItem;
      const end = isItem ? this.#endOfItem(buffer, from) : this.#endOfAround(buffer, from);
      // A copy: the piece belongs to the stream.
      (isItem ? this.#item : this.#around).add(Buffer.from(buffer.subarray(from, end)));
      if (isItem && !this.#isInItem) items.push(JSON.parse(this.#item.take()));
      // Around the items nothing is left that commas would part.
      from = this.#isBetween && buffer[end] === COMMA ? end + 1 : end;
    }
    return items;
  }

  /** Everything but the items, when the text is over. Throws SyntaxError when it is not whole. */
  end(): unknown {
    return JSON.parse(this.#around.take());
  }

  get #isBetween(): boolean {
    return this.#isInItems && !this.#isInItem && this.#depth === 2;
  }

  /** Index behind the item's last brace, or of the piece's end. Nearly every byte of a list passes here, hence the locals. */
  #endOfItem(buffer: Buffer, from: number): number {
    let braces = this.#braces;
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
      else if (byte === OPEN_BRACE) braces += 1;
      else if (byte === CLOSE_BRACE && (braces -= 1) === 0) break;
    }
    this.#braces = braces;
    this.#isInString = isInString;
    this.#isEscaped = isEscaped;
    if (at === buffer.length) return at;
    this.#isInItem = false;
    return at + 1;
  }

  /** Index of an item's first brace, of a comma between items, or of the piece's end. */
  #endOfAround(buffer: Buffer, from: number): number {
    for (let at = from; at < buffer.length; at += 1) {
      const byte = buffer[at] ?? 0;
      if (this.#isInString) this.#string(byte);
      else if (this.#isBetween && byte === COMMA) return at;
      else if (this.#isBetween && byte === OPEN_BRACE) {
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
    } else if (byte === CLOSE_BRACKET || byte === CLOSE_BRACE) {
      this.#depth -= 1;
      if (this.#depth === 1) this.#isInItems = false;
    }
  }
}
