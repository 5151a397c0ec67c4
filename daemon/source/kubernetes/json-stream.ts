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

/** A Kubernetes List: the elements of its "items", and what stands around them. */
export class ListDecoder {
  readonly #around = new Kept();
  readonly #item = new Kept();
  #depth = 0;
  #isInString = false;
  /** The string goes on behind the piece, which ended with a backslash that escapes. */
  #isEscaped = false;
  /** Bytes of the string that may be the key before a value at depth 1. */
  #lastString = '';
  #isInItems = false;

  /** The items that this piece ends, parsed. Throws SyntaxError. */
  push(piece: Uint8Array): unknown[] {
    const buffer = bufferOf(piece);
    const items: unknown[] = [];
    let from = 0;
    const keep = (until: number): void => {
      (this.#isInItem ? this.#item : this.#around).add(Buffer.from(buffer.subarray(from, until)));
      from = until;
    };
    for (let at = 0; at < buffer.length; at += 1) {
      if (this.#isInString) {
        at = this.#endOfString(buffer, at);
        continue;
      }
      switch (buffer[at]) {
        case QUOTE:
          this.#isInString = true;
          if (this.#depth === 1) this.#lastString = '';
          break;
        case OPEN_BRACKET:
          if (this.#depth === 1 && this.#lastString === 'items') this.#isInItems = true;
          this.#depth += 1;
          break;
        case OPEN_BRACE:
          if (this.#isInItems && this.#depth === 2) keep(at);
          this.#depth += 1;
          break;
        case CLOSE_BRACKET:
          this.#depth -= 1;
          if (this.#depth === 1) this.#isInItems = false;
          break;
        case CLOSE_BRACE:
          if (this.#isInItems && this.#depth === 3) {
            keep(at + 1);
            items.push(JSON.parse(this.#item.take()));
          }
          this.#depth -= 1;
          break;
        case COMMA:
          // Between items; around them nothing of these is left to parse.
          if (this.#isInItems && this.#depth === 2) {
            keep(at);
            from = at + 1;
          }
          break;
        default:
      }
    }
    keep(buffer.length);
    return items;
  }

  /** Everything but the items, when the text is over. Throws SyntaxError when it is not whole. */
  end(): unknown {
    return JSON.parse(this.#around.take());
  }

  /** True from an item's first brace on, until its last. */
  get #isInItem(): boolean {
    return this.#isInItems && this.#depth > 2;
  }

  /** Index of the quote that ends the string, or of the last byte. */
  #endOfString(buffer: Buffer, start: number): number {
    for (let at = start; at < buffer.length; at += 1) {
      if (this.#isEscaped) {
        this.#isEscaped = false;
        continue;
      }
      const quote = buffer.indexOf(QUOTE, at);
      const end = quote === -1 ? buffer.length : quote;
      const backslash = buffer.subarray(at, end).indexOf(BACKSLASH);
      if (backslash !== -1) {
        at += backslash;
        this.#isEscaped = true;
        continue;
      }
      if (this.#depth === 1) this.#lastString += buffer.toString('latin1', at, end);
      if (quote === -1) return buffer.length;
      this.#isInString = false;
      return quote;
    }
    return buffer.length;
  }
}
