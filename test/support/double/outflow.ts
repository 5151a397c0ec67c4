// SPDX-License-Identifier: Apache-2.0
// The body of an answer while it is being written: pieces go in, whoever sends or reads it takes them out. It ends in good
// order or is cut, at once or behind a number of bytes.

export class Outflow implements AsyncIterable<Uint8Array> {
  #pieces: Uint8Array[] = [];
  /** Undefined: it goes on; otherwise why there is no more, "" for good order. */
  #over: string | undefined;
  #bytesLeft = Infinity;
  #isStalling = false;
  #wake: () => void = () => undefined;
  /** Nobody reads any more, or there is nothing more to come. */
  onOver: () => void = () => undefined;

  get isOpen(): boolean {
    return this.#over === undefined;
  }

  write(piece: string | Uint8Array): void {
    if (!this.isOpen) return;
    const bytes = typeof piece === 'string' ? Buffer.from(piece) : piece;
    const fitting = bytes.subarray(0, Math.min(bytes.length, this.#bytesLeft));
    this.#bytesLeft -= fitting.length;
    if (fitting.length > 0) this.#pieces.push(fitting);
    if (this.#bytesLeft === 0 && !this.#isStalling) this.cut('read ECONNRESET');
    this.#wake();
  }

  end(): void {
    if (!this.#isStalling || this.#bytesLeft > 0) this.#finish('');
  }

  /** What was written before still arrives. */
  cut(why: string): void {
    this.#finish(why);
  }

  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  /** The rest is never sent, and there is no end. */
  stallAfter(bytes: number): void {
    this.#bytesLeft = bytes;
    this.#isStalling = true;
  }

  /** Of the reader's side. */
  cancel(): void {
    this.#pieces = [];
    this.#finish('cancelled');
  }

  /** Throws Cut. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        for (let piece = this.#pieces.shift(); piece !== undefined; piece = this.#pieces.shift()) yield piece;
        if (this.#over === '') return;
        if (this.#over !== undefined) throw new Cut(this.#over);
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await promise;
      }
    } finally {
      this.cancel();
    }
  }

  #finish(why: string): void {
    if (!this.isOpen) return;
    this.#over = why;
    this.#wake();
    this.onOver();
  }
}

/** The body did not come to its end. */
export class Cut extends Error {
  override readonly name = 'Cut';
}
