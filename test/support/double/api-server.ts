// SPDX-License-Identifier: Apache-2.0
// A small list and watch server for what a real one cannot be made to do on demand. It answers as the real one does unless
// it is told to fail; memory-client.ts and http2-server.ts bring requests to it.
import type { Clock } from '../../../daemon/base/clock.ts';
import type { Kind } from '../../../daemon/source/kinds.ts';
import { type Collection, collections, eventOf, ObjectStore, type RawObject, type Selector, selectorOf } from './objects.ts';
import { Outflow } from './outflow.ts';
import { continueTooOld, forbidden, notFound, noWatchList, type ExitError, statusOf, tooOld, unauthorized } from './statuses.ts';

export interface LabRequest {
  readonly verb: 'list' | 'watch';
  readonly collection: Collection;
  readonly query: URLSearchParams;
  /** The path as it was asked for. */
  readonly path: string;
}

export interface Reply {
  readonly status: number;
  /** Seconds. */
  readonly retryAfter?: number;
  readonly body: Outflow;
}

/** What is to be done with a request instead of answering it well. */
export type Fault =
  /** No connection. */
  | 'refuse'
  /** Accepted, and nothing else, until serve(). */
  | 'hang'
  | (ExitError & { readonly stallAfter?: number })
  /** Answered well, but cut behind so many bytes of the body, or silent from there on. */
  | { readonly cutAfter: number }
  | { readonly stallAfter: number }
  /** Status 200 and this as the whole body. */
  | { readonly body: string };

interface Watcher {
  readonly kind: Kind;
  readonly selector: Selector;
  readonly body: Outflow;
  /** Behind the initial events. */
  held: string[] | undefined;
}

const initialEventsEnd = { 'k8s.io/initial-events-end': 'true' };
const BOOKMARK_MS = 60_000;

export class ApiServer {
  readonly store: ObjectStore;
  /** Every request so far. */
  readonly asked: LabRequest[] = [];
  /** Pieces that bodies are sent in. */
  pieceBytes = 16_384;
  /** Most that a page holds, however many are asked for. */
  pageItems = Infinity;
  hasStreamingLists = true;
  /** How a watch from a forgotten revision is told so. */
  tooOldComes: 'as status' | 'as event' = 'as event';
  /** Resources that this server is too old for. */
  readonly unknown = new Set<Kind>();
  /** What RBAC lacks: "watch services". */
  readonly forbidden = new Set<string>();
  isTokenGood = true;
  /** LabRequest for each request before it is answered. */
  fault: (asked: LabRequest) => Fault | undefined = () => undefined;
  readonly #clock: Pick<Clock, 'setTimer'>;
  readonly #watchers = new Set<Watcher>();
  /** Rest of a list whose first pages are read. */
  readonly #rests = new Map<string, { readonly revision: number; readonly items: readonly RawObject[] }>();
  #tokens = 0;
  #isHolding = false;
  #onServe: (() => void)[] = [];
  readonly #stalled: Outflow[] = [];

  constructor(clock: Pick<Clock, 'setTimer'>) {
    this.#clock = clock;
    this.store = new ObjectStore((happening) => {
      for (const watcher of this.#watchers) {
        if ((happening.after ?? happening.before)?.kind !== watcher.kind) continue;
        const event = eventOf(happening, watcher.selector);
        if (event !== undefined) this.#say(watcher, lineOf(event));
      }
    });
  }

  put(...objects: RawObject[]): void {
    for (const object of objects) this.store.put(object);
  }

  /** Cuts what is under way. New requests are answered as before. */
  cut(why = 'read ECONNRESET'): void {
    for (const { body } of this.#watchers) body.cut(why);
  }

  /** Ends every watch in good order. */
  end(): void {
    for (const { body } of this.#watchers) body.end();
  }

  /** Who watches now hears nothing any more, not even an end, though the connection is well. */
  forget(): void {
    for (const { body } of this.#watchers) body.stallAfter(0);
  }

  /** Every request meets this fault from now on; what is under way is cut, or falls silent with the rest. */
  fail(fault: Fault): void {
    this.fault = () => fault;
    if (fault === 'hang') this.hold();
    else this.cut();
  }

  /** Healthy again; requests that hung are answered, as those of a process that was stopped and goes on. What stalled is cut. */
  serve(): void {
    this.fault = () => undefined;
    for (const body of this.#stalled.splice(0)) body.cut('read ECONNRESET');
    this.release();
    for (const answer of this.#onServe.splice(0)) answer();
  }

  /** The next request, or the next that the filter takes, meets the fault. */
  failNext(fault: Fault, filter: (asked: LabRequest) => boolean = () => true): void {
    const before = this.fault;
    let isDone = false;
    this.fault = (asked) => {
      if (isDone || !filter(asked)) return before(asked);
      isDone = true;
      return fault;
    };
  }

  /** Sent to every watch as it is: garbage, half an event. */
  say(text: string): void {
    for (const { body } of this.#watchers) body.write(text);
  }

  bookmark(): void {
    for (const watcher of this.#watchers) this.#bookmark(watcher);
  }

  /** Events wait for release(). */
  hold(): void {
    this.#isHolding = true;
  }

  /** Sends the lines that waited, of each watch, as the function gives them. */
  release(arrange: (lines: readonly string[]) => readonly string[] = (lines) => lines): void {
    this.#isHolding = false;
    for (const watcher of this.#watchers) {
      const lines = watcher.held ?? [];
      watcher.held = undefined;
      for (const line of arrange(lines)) watcher.body.write(line);
    }
  }

  /** As a server whose cache is behind: what happened meanwhile comes among the initial events, and the bookmark, of now, last. */
  releaseLate(): void {
    this.release((lines) => {
      const isEnd = (line: string): boolean => line.includes('initial-events-end');
      return lines.some(isEnd) ? [...lines.filter((line) => !isEnd(line)), this.#bookmarkLine('', initialEventsEnd)] : lines;
    });
  }

  get watching(): number {
    return this.#watchers.size;
  }

  /** 'refuse': there is no connection to answer on. A request that hangs is answered after serve(). */
  async receive(path: string, signal: AbortSignal): Promise<Reply | 'refuse'> {
    const asked = askedOf(path);
    this.asked.push(asked);
    const fault = this.fault(asked);
    if (fault === 'refuse') return fault;
    if (fault === 'hang') return (await this.#served(signal), this.#answer(asked));
    if (fault === undefined) return this.#answer(asked);
    const body = new Outflow();
    if ('cutAfter' in fault) body.cutAfter(fault.cutAfter);
    if ('stallAfter' in fault) {
      body.stallAfter(fault.stallAfter ?? Infinity);
      this.#stalled.push(body);
    }
    if ('code' in fault) return this.#refusal(fault, body);
    return 'body' in fault ? this.#whole(fault.body) : this.#answer(asked, body);
  }

  #served(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onServe.push(resolve);
    signal.addEventListener('abort', () => resolve(), { once: true });
    return promise;
  }

  #answer(asked: LabRequest, body = new Outflow()): Reply {
    const { verb, collection, query } = asked;
    if (!this.isTokenGood) return this.#refusal(unauthorized);
    if (this.forbidden.has(`${verb} ${collection.resource}`)) return this.#refusal(forbidden(verb, collection));
    if (this.unknown.has(collection.kind)) return this.#refusal(notFound);
    return verb === 'list' ? this.#list(collection, query, body) : this.#watch(collection, query, body);
  }

  #refusal(refusal: ExitError, body = new Outflow()): Reply {
    const { retryAfter } = refusal;
    const reply = this.#whole(JSON.stringify(statusOf(refusal)), body);
    return { ...reply, status: refusal.code, ...(retryAfter === undefined ? {} : { retryAfter }) };
  }

  #whole(text: string, body = new Outflow()): Reply {
    const bytes = Buffer.from(text);
    for (let from = 0; from < bytes.length; from += this.pieceBytes) body.write(bytes.subarray(from, from + this.pieceBytes));
    body.end();
    return { status: 200, body };
  }

  #list({ kind, apiVersion }: Collection, query: URLSearchParams, body: Outflow): Reply {
    const token = query.get('continue');
    const rest = token === null ? undefined : this.#rests.get(token);
    if (token !== null && (rest === undefined || rest.revision < this.store.compacted)) return this.#refusal(continueTooOld);
    const { revision, items } = rest ?? { revision: this.store.revision, items: this.store.all(kind, selectorIn(query)) };
    const limit = Math.min(Number(query.get('limit') ?? 0) || Infinity, this.pageItems);
    const metadata: Record<string, unknown> = { resourceVersion: String(revision) };
    if (items.length > limit) {
      this.#tokens += 1;
      this.#rests.set(`rest-${this.#tokens}`, { revision, items: items.slice(limit) });
      Object.assign(metadata, { continue: `rest-${this.#tokens}`, remainingItemCount: items.length - limit });
    }
    // Items of a list do not say what they are.
    const page = items.slice(0, limit).map(({ kind: _kind, apiVersion: _apiVersion, ...fields }) => fields);
    return this.#whole(JSON.stringify({ kind: `${kind}List`, apiVersion, metadata, items: page }), body);
  }

  #watch({ kind }: Collection, query: URLSearchParams, body: Outflow): Reply {
    const isStreamingList = query.get('sendInitialEvents') === 'true';
    if (isStreamingList && !this.hasStreamingLists) return this.#refusal(noWatchList);
    const selector = selectorIn(query);
    const from = query.get('resourceVersion') ?? '';
    const missed = isStreamingList ? [] : this.store.since(Number(from));
    if (missed === undefined) {
      const refusal = tooOld(from, this.store.compacted);
      if (this.tooOldComes === 'as status') return this.#refusal(refusal);
      return this.#whole(`${JSON.stringify({ type: 'ERROR', object: statusOf(refusal) })}\n`);
    }
    const watcher: Watcher = { kind, selector, body, held: undefined };
    this.#begin(watcher, Number(query.get('timeoutSeconds')) * 1000);
    if (isStreamingList) {
      for (const object of this.store.all(kind, selector)) this.#say(watcher, lineOf({ type: 'ADDED', object }));
      this.#bookmark(watcher, initialEventsEnd);
    }
    for (const happening of missed) {
      const event = (happening.after ?? happening.before)?.kind === kind ? eventOf(happening, selector) : undefined;
      if (event !== undefined) this.#say(watcher, lineOf(event));
    }
    return { status: 200, body };
  }

  #begin(watcher: Watcher, timeoutMs: number): void {
    if (!watcher.body.isOpen) return;
    this.#watchers.add(watcher);
    let cancelBookmark = (): void => undefined;
    const bookmarkLater = (): void => {
      cancelBookmark = this.#clock.setTimer(BOOKMARK_MS, () => {
        this.#bookmark(watcher);
        bookmarkLater();
      });
    };
    bookmarkLater();
    const cancelEnd = timeoutMs > 0 ? this.#clock.setTimer(timeoutMs, () => watcher.body.end()) : () => undefined;
    watcher.body.onOver = () => {
      this.#watchers.delete(watcher);
      cancelBookmark();
      cancelEnd();
    };
  }

  #bookmark(watcher: Watcher, annotations?: object): void {
    this.#say(watcher, this.#bookmarkLine(watcher.kind, annotations));
  }

  #bookmarkLine(kind: string, annotations?: object): string {
    const metadata = { resourceVersion: String(this.store.revision), creationTimestamp: null, ...(annotations && { annotations }) };
    return lineOf({ type: 'BOOKMARK', object: { kind, metadata } });
  }

  #say(watcher: Watcher, line: string): void {
    if (this.#isHolding) (watcher.held ??= []).push(line);
    else this.#send(watcher.body, Buffer.from(line));
  }

  #send(body: Outflow, bytes: Buffer): void {
    for (let from = 0; from < bytes.length; from += this.pieceBytes) body.write(bytes.subarray(from, from + this.pieceBytes));
  }
}

const lineOf = (event: { type: string; object: object }): string => `${JSON.stringify(event)}\n`;

function askedOf(path: string): LabRequest {
  const url = new URL(path, 'http://api');
  const collection = collections.find((each) => each.path === url.pathname);
  if (collection === undefined) throw new Error(`the double has no ${url.pathname}`);
  const verb = url.searchParams.get('watch') === '1' ? 'watch' : 'list';
  return { verb, collection, query: url.searchParams, path };
}

const selectorIn = (query: URLSearchParams): Selector => selectorOf(query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '');
