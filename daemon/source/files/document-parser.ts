// SPDX-License-Identifier: Apache-2.0
// Parses documents without holding up the event loop: small texts at once, large ones in a worker thread that has limits of time and
// memory and exists only while it has work. Parsing never fails: a document that exceeds a limit counts as unreadable. It keeps
// no document.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Clock } from '../../base/clock.ts';
import { ReasonError } from '../../base/errors.ts';
import { systemReason } from '../../base/reasons.ts';
import { type ParsedDocument, parseDocument, unreadableDocument } from './documents.ts';
import { MAX_INLINE_CHARS, MAX_INLINE_MARKS, MAX_PARSE_MIB, MAX_PARSE_SECONDS } from './limits.ts';
import type { ParsePart, ParseRequest } from './parse-worker.ts';
import { mayHaveAliases } from './values.ts';
import { hasMoreMarks } from './yaml-size.ts';

/** Delay before another try to start the thread, for example when no file descriptor is left. */
const RESTART_MS = 1000;

/** Time without work after which the thread ends, because it needs 40 MiB. Starting the thread takes 0.2 s. */
const IDLE_MS = 1000;

type Clocked = Pick<Clock, 'setTimer'>;

/** Whether parsing these texts in one turn of the event loop would delay other work. `isJson` means that none of them is parsed as YAML. */
export function isLarge(texts: readonly string[], isJson: boolean): boolean {
  const length = texts.reduce((sum, text) => sum + text.length, 0);
  if (length > MAX_INLINE_CHARS || isJson) return length > MAX_INLINE_CHARS;
  return texts.some((text) => mayHaveAliases(text) || hasMoreMarks(text, MAX_INLINE_MARKS));
}

export class DocumentParser {
  readonly #clock: Clocked;
  /** Settles when the last text in the queue is parsed. Texts are parsed one after the other. */
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #thread: ParseThread | undefined;
  #cancelEnd = (): void => undefined;
  #inlineChars = 0;
  #isClosed = false;
  #problem: string | undefined;

  constructor(clock: Clocked) {
    this.#clock = clock;
  }

  /** Why the worker thread cannot be started at present. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Returns the parsed document of each text. After close(), documents may be missing. */
  async parse(texts: readonly string[], isJson: boolean): Promise<Map<string, ParsedDocument>> {
    if (isLarge(texts, isJson)) return this.#queued(() => this.#inThread(texts, isJson));
    const parsed = new Map(texts.map((text) => [text, parseDocument(text, isJson)]));
    this.#inlineChars += texts.reduce((sum, text) => sum + text.length, 0);
    if (this.#inlineChars > MAX_INLINE_CHARS) {
      this.#inlineChars = 0;
      await nextTurn();
    }
    return parsed;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelEnd();
    await this.#thread?.end();
  }

  async #queued<T>(task: () => Promise<T>): Promise<T> {
    this.#waiting += 1;
    const result = this.#last.then(task);
    this.#last = result;
    try {
      return await result;
    } finally {
      this.#waiting -= 1;
      this.#cancelEnd();
      if (this.#waiting === 0) this.#cancelEnd = this.#clock.setTimer(IDLE_MS, () => void this.#endWhenIdle());
    }
  }

  async #endWhenIdle(): Promise<void> {
    if (this.#waiting === 0) await this.#endThread();
  }

  async #inThread(texts: readonly string[], isJson: boolean): Promise<Map<string, ParsedDocument>> {
    const parsed = new Map<string, ParsedDocument>();
    for (const text of new Set(texts)) {
      const thread = await this.#startedThread();
      if (thread === undefined) break;
      try {
        parsed.set(text, await thread.parse({ text, isJson }));
      } catch (error) {
        parsed.set(text, unreadableDocument(systemReason(error)));
        await this.#endThread();
      }
    }
    return parsed;
  }

  /** Undefined after close(). */
  async #startedThread(): Promise<ParseThread | undefined> {
    while (!this.#isClosed) {
      try {
        this.#thread ??= await ParseThread.start(this.#clock);
        this.#problem = undefined;
        return this.#thread;
      } catch (error) {
        this.#problem = systemReason(error);
        await new Promise<void>((resolve) => void this.#clock.setTimer(RESTART_MS, resolve));
      }
    }
    return undefined;
  }

  async #endThread(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.end();
  }
}

/** One worker thread. It handles one request at a time, and must not be used after a failure. */
class ParseThread {
  readonly #worker: Worker;
  readonly #clock: Clocked;
  #settle: PromiseWithResolvers<ParsePart | 'ready'> | undefined;

  private constructor(clock: Clocked) {
    this.#clock = clock;
    const resourceLimits = { maxOldGenerationSizeMb: MAX_PARSE_MIB, maxYoungGenerationSizeMb: 16 };
    this.#worker = new Worker(new URL('parse-worker.ts', import.meta.url), { resourceLimits });
    this.#worker.unref();
    this.#worker.on('message', (message: ParsePart | 'ready') => this.#settle?.resolve(message));
    this.#worker.on('error', (error: NodeJS.ErrnoException) => this.#settle?.reject(new ReasonError(reasonOf(error), { cause: error })));
    this.#worker.on('exit', () => this.#settle?.reject(new ReasonError('the parser ended unexpectedly')));
  }

  /** Starts the thread. Throws when the thread cannot be started. */
  static async start(clock: Clocked): Promise<ParseThread> {
    const thread = new ParseThread(clock);
    await thread.#answer();
    return thread;
  }

  /** Throws an error whose message completes "the document ...". */
  async parse(request: ParseRequest): Promise<ParsedDocument> {
    const definitions: ParsedDocument['definitions'][number][] = [];
    const expired = Promise.withResolvers<never>();
    const cancel = this.#clock.setTimer(MAX_PARSE_SECONDS * 1000, () =>
      expired.reject(new ReasonError(`takes more than ${MAX_PARSE_SECONDS} s to parse: divide it`)),
    );
    try {
      for (let message: ParseRequest | 'next' = request; ; message = 'next') {
        const answer = this.#answer();
        this.#worker.postMessage(message);
        const part = await Promise.race([answer, expired.promise]);
        if (part === 'ready') continue;
        definitions.push(...part.definitions);
        if (part.rest !== undefined) return { definitions, ...part.rest };
      }
    } finally {
      cancel();
      expired.promise.catch(() => undefined);
    }
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #answer(): Promise<ParsePart | 'ready'> {
    this.#settle = Promise.withResolvers();
    // If the caller no longer waits when the thread ends, no code handles the rejection, so it is handled here.
    this.#settle.promise.catch(() => undefined);
    return this.#settle.promise;
  }
}

const reasonOf = (error: NodeJS.ErrnoException): string =>
  error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? `takes more than ${MAX_PARSE_MIB} MiB of memory to parse: divide it` : systemReason(error);
