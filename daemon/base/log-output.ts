// SPDX-License-Identifier: Apache-2.0
// Writes log lines to stderr. Lines wait in a buffer of limited size. Lines that do not fit into the buffer, or that stderr refuses (full
// disk, closed pipe), are dropped and counted, so that they affect nothing else. It must never block, throw, or exceed the size of the
// buffer. main.ts creates the LogOutput, the logger of log.ts calls it, and the status shows the number of dropped lines.
import { write as writeFd } from 'node:fs';
import type { Logger } from 'pino';
import { type Clock, systemClock } from './clock.ts';
import { systemReason } from './reasons.ts';

export interface LogStatus {
  /** Lines that were lost since the start. */
  readonly droppedLines: number;
  /** Why the last lost lines were lost; undefined if no line was lost. */
  readonly reason: string | undefined;
}

/** Writes some of the bytes to stderr, as fs.write() does. */
type Write = (bytes: Buffer, done: (error: NodeJS.ErrnoException | null, written: number) => void) => void;

export interface LogOutputOptions {
  readonly write?: Write;
  readonly clock?: Pick<Clock, 'setTimer'>;
}

const stderr = 2;
/** Maximum size in bytes of all lines that wait. This is enough for a burst of problems, which causes about 5000 lines. */
const BUFFER_BYTES = 1 << 20;
/** Maximum size of one write in bytes: the capacity of a pipe. */
const WRITE_BYTES = 1 << 16;
/** Pause before the next write to a pipe that is full. */
const FULL_MS = 100;
/** Pause after a failed write, so that a full disk does not cause a failed write for each line. */
const FAILED_MS = 1000;
/** Maximum time that flush() waits. The process must end within 5 s of a signal. */
const FLUSH_MS = 500;

const busyCodes: ReadonlySet<string | undefined> = new Set(['EAGAIN', 'EBUSY', 'EINTR']);
const newline = Buffer.from('\n');

export class LogOutput {
  readonly fd = stderr;
  readonly #write: Write;
  readonly #clock: Pick<Clock, 'setTimer'>;
  #waiting: Buffer<ArrayBuffer>[] = [];
  #waitingBytes = 0;
  /** The bytes that are being written. #ends contains the index of the end of each line in these bytes. */
  #chunk: Buffer<ArrayBuffer> | undefined;
  #ends: number[] = [];
  #written = 0;
  /** True if the last byte that reached stderr was not the end of a line. */
  #isMidLine = false;
  #dropped = 0;
  #reason: string | undefined;
  /** Number of dropped lines that the log has reported. */
  #reported = 0;
  #log: Logger | undefined;
  #flushed: (() => void)[] = [];

  constructor(options: LogOutputOptions = {}) {
    this.#write = options.write ?? ((bytes, done) => writeFd(stderr, bytes, done));
    this.#clock = options.clock ?? systemClock;
  }

  get status(): LogStatus {
    return { droppedLines: this.#dropped, reason: this.#reason };
  }

  /** Takes a line of text that ends with a line feed. The logger calls this method for each line. */
  write(text: string): void {
    const line = Buffer.from(text);
    if (this.#waitingBytes + line.length > BUFFER_BYTES) {
      this.#drop(1, 'stderr is not read');
      return;
    }
    this.#waiting.push(line);
    this.#waitingBytes += line.length;
    if (this.#chunk === undefined) this.#next();
  }

  /** Logs the number of dropped lines when stderr works again. */
  reportDrops(log: Logger): void {
    this.#log = log;
  }

  /** Resolves with true when no line waits any more, or with false after FLUSH_MS. Call it before the process ends. */
  flush(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    if (this.#chunk === undefined && this.#waiting.length === 0) return Promise.resolve(true);
    const cancel = this.#clock.setTimer(FLUSH_MS, () => resolve(false));
    this.#flushed.push(() => {
      cancel();
      resolve(true);
    });
    return promise;
  }

  #next(): void {
    // If only the beginning of the previous line was written, a line feed is added, so that the next line begins on a new line.
    const parts = this.#isMidLine ? [newline] : [];
    this.#ends = [];
    let bytes = parts.length;
    let count = 0;
    for (const line of this.#waiting) {
      if (count > 0 && bytes + line.length > WRITE_BYTES) break;
      parts.push(line);
      bytes += line.length;
      this.#ends.push(bytes);
      count += 1;
    }
    if (count === 0) {
      this.#chunk = undefined;
      for (const done of this.#flushed.splice(0)) done();
      return;
    }
    this.#waiting.splice(0, count);
    this.#chunk = Buffer.concat(parts);
    this.#waitingBytes -= this.#chunk.length - (this.#isMidLine ? 1 : 0);
    this.#written = 0;
    this.#continue(this.#chunk);
  }

  #continue(chunk: Buffer): void {
    this.#write(chunk.subarray(this.#written), (error, written) => {
      if (error !== null) this.#failed(chunk, error);
      else if (this.#written + written < chunk.length) {
        this.#advance(chunk, written);
        this.#continue(chunk);
      } else {
        this.#advance(chunk, written);
        this.#succeeded();
      }
    });
  }

  #advance(chunk: Buffer, written: number): void {
    if (written === 0) return;
    this.#written += written;
    this.#isMidLine = chunk[this.#written - 1] !== newline[0];
  }

  #succeeded(): void {
    const lines = this.#dropped - this.#reported;
    this.#reported = this.#dropped;
    if (lines > 0) this.#log?.warn({ lines, reason: this.#reason }, 'log lines were dropped');
    this.#next();
  }

  #failed(chunk: Buffer, error: NodeJS.ErrnoException): void {
    if (busyCodes.has(error.code)) {
      this.#clock.setTimer(FULL_MS, () => this.#continue(chunk));
      return;
    }
    this.#drop(this.#ends.filter((end) => end > this.#written).length, systemReason(error));
    this.#clock.setTimer(FAILED_MS, () => this.#next());
  }

  #drop(lines: number, reason: string): void {
    this.#dropped += lines;
    this.#reason = reason;
  }
}
