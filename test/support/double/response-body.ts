// SPDX-License-Identifier: Apache-2.0
// The body of a response while it is written. The server writes pieces, and a client or an HTTP/2 stream reads them. A body
// ends normally or is interrupted, at once or after a number of bytes.

export class ResponseBody implements AsyncIterable<Uint8Array> {
  #pieces: Uint8Array[] = [];
  /** Undefined while the body is open; "" after a normal end; otherwise the reason of the interruption. */
  #ended: string | undefined;
  #bytesLeft = Infinity;
  #isStalling = false;
  #wake: () => void = () => undefined;
  /** Called once, when the body ended, was interrupted or is no longer read. */
  onEnded: () => void = () => undefined;

  get isOpen(): boolean {
    return this.#ended === undefined;
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

  /** Interrupts the body. Pieces that were written before are still delivered. */
  cut(reason: string): void {
    this.#finish(reason);
  }

  cutAfter(bytes: number): void {
    this.#bytesLeft = bytes;
  }

  /** After this number of bytes, nothing more is sent, and the body does not end. */
  stallAfter(bytes: number): void {
    this.#bytesLeft = bytes;
    this.#isStalling = true;
  }

  /** Cancels the body. The reader calls this. */
  cancel(): void {
    this.#pieces = [];
    this.#finish('cancelled');
  }

  /** Throws InterruptedError. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        for (let piece = this.#pieces.shift(); piece !== undefined; piece = this.#pieces.shift()) yield piece;
        if (this.#ended === '') return;
        if (this.#ended !== undefined) throw new InterruptedError(this.#ended);
        const { promise, resolve } = Promise.withResolvers<void>();
        this.#wake = resolve;
        await promise;
      }
    } finally {
      this.cancel();
    }
  }

  #finish(reason: string): void {
    if (!this.isOpen) return;
    this.#ended = reason;
    this.#wake();
    this.onEnded();
  }
}

/** The body was interrupted before its end. */
export class InterruptedError extends Error {
  override readonly name = 'InterruptedError';
}
