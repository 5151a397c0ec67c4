// SPDX-License-Identifier: Apache-2.0
// A double of the API server with LIST and WATCH, for faults that a real server does not have on demand. Without a fault it
// answers as a real server does. memory-client.ts and http2-server.ts pass requests to it.
import type { Clock } from '../../../daemon/base/clock.ts';
import {
  allCollections,
  type Collection,
  eventOf,
  ObjectStore,
  type RawObject,
  type Selector,
  selectorOf,
  type ServedKind,
} from './objects.ts';
import { ResponseBody } from './response-body.ts';
import { expired, expiredContinue, forbidden, notFound, noWatchList, type Refusal, statusOf, unauthorized } from './statuses.ts';

export interface ReceivedRequest {
  readonly verb: 'list' | 'watch';
  readonly collection: Collection;
  readonly query: URLSearchParams;
  /** The path with its query. */
  readonly path: string;
}

export interface Reply {
  readonly status: number;
  /** In seconds. */
  readonly retryAfter?: number;
  readonly body: ResponseBody;
}

/** The way in which a request fails. */
export type Fault =
  /** The connection is refused. */
  | 'refuse'
  /** The request is accepted and not answered until serve(). */
  | 'hang'
  | (Refusal & { readonly stallAfter?: number })
  /** The body of a normal response is interrupted, or stalls, after a number of bytes. */
  | { readonly cutAfter: number }
  | { readonly stallAfter: number }
  /** The response has status 200 and this body. */
  | { readonly body: string };

interface Watcher {
  readonly kind: ServedKind;
  readonly selector: Selector;
  readonly body: ResponseBody;
  /** sendToWatches() has sent text that is no event. The client gives this watch up. */
  isSpoilt: boolean;
  /** Lines that wait for releaseEvents(). */
  held: string[] | undefined;
}

const initialEventsEnd = { 'k8s.io/initial-events-end': 'true' };
const BOOKMARK_MS = 60_000;

export class ApiServer {
  readonly store: ObjectStore;
  /** All requests so far. */
  readonly requests: ReceivedRequest[] = [];
  /** Size of the pieces in which bodies are sent. */
  pieceBytes = 16_384;
  /** Maximum number of items in a page, regardless of the request. */
  pageItems = Infinity;
  hasStreamingLists = true;
  /** How a watch from a compacted revision is refused. */
  sendsExpiredAs: 'status' | 'event' = 'event';
  /** Resources that this server does not have, like a server of an old version. */
  readonly missingKinds = new Set<ServedKind>();
  /** Rights that RBAC does not grant: "watch services". */
  readonly forbidden = new Set<string>();
  acceptsToken = true;
  /** Returns the fault of a request; undefined for a normal response. */
  fault: (request: ReceivedRequest) => Fault | undefined = () => undefined;
  readonly #clock: Pick<Clock, 'setTimer'>;
  readonly #watchers = new Set<Watcher>();
  /** Remaining items of lists, by continue token. */
  readonly #remaining = new Map<string, { readonly revision: number; readonly items: readonly RawObject[] }>();
  #tokens = 0;
  #isHolding = false;
  #onServe: (() => void)[] = [];
  readonly #stalled: ResponseBody[] = [];

  constructor(clock: Pick<Clock, 'setTimer'>) {
    this.#clock = clock;
    this.store = new ObjectStore((change) => {
      for (const watcher of this.#watchers) {
        if ((change.after ?? change.before)?.kind !== watcher.kind) continue;
        const event = eventOf(change, watcher.selector);
        if (event !== undefined) this.#send(watcher, lineOf(event));
      }
    });
  }

  put(...objects: RawObject[]): void {
    for (const object of objects) this.store.put(object);
  }

  /** Interrupts all watches. New requests are not affected. */
  cut(reason = 'read ECONNRESET'): void {
    for (const { body } of this.#watchers) body.cut(reason);
  }

  /** Ends all watches normally. */
  end(): void {
    for (const { body } of this.#watchers) body.end();
  }

  /** The open watches receive nothing more, not even their end, but their connection stays open. */
  stallWatches(): void {
    for (const { body } of this.#watchers) body.stallAfter(0);
  }

  /** All further requests have this fault. The open watches are interrupted; with 'hang', they stall. */
  fail(fault: Fault): void {
    this.fault = () => fault;
    if (fault === 'hang') this.holdEvents();
    else this.cut();
  }

  /**
   * Ends all faults. Requests that hung are answered, as when a stopped process continues. Stalled bodies are interrupted.
   */
  serve(): void {
    this.fault = () => undefined;
    for (const body of this.#stalled.splice(0)) body.cut('read ECONNRESET');
    this.releaseEvents();
    for (const answer of this.#onServe.splice(0)) answer();
  }

  /** The next request that the filter accepts has this fault. */
  failNext(fault: Fault, filter: (request: ReceivedRequest) => boolean = () => true): void {
    const before = this.fault;
    let isDone = false;
    this.fault = (request) => {
      if (isDone || !filter(request)) return before(request);
      isDone = true;
      return fault;
    };
  }

  /** Sends text to all watches unchanged, for example malformed events. */
  sendToWatches(text: string): void {
    const bytes = Buffer.from(text);
    for (const watcher of this.#watchers) {
      watcher.isSpoilt = true;
      // In pieces: Node.js refuses new streams of a connection on which a large piece of a cancelled stream waits.
      this.#write(watcher.body, bytes);
    }
  }

  /** Whether a client receives the changes of objects of this kind: it has a watch that no text of sendToWatches() has spoilt. */
  delivers(kind: ServedKind): boolean {
    return this.#watchers.values().some((watcher) => watcher.kind === kind && !watcher.isSpoilt);
  }

  bookmark(): void {
    for (const watcher of this.#watchers) this.#sendBookmark(watcher);
  }

  /** Holds back all events until releaseEvents(). */
  holdEvents(): void {
    this.#isHolding = true;
  }

  /** Sends the waiting lines of each watch, after `arrange` has changed them. */
  releaseEvents(arrange: (lines: readonly string[]) => readonly string[] = (lines) => lines): void {
    this.#isHolding = false;
    for (const watcher of this.#watchers) {
      const lines = watcher.held ?? [];
      watcher.held = undefined;
      for (const line of arrange(lines)) watcher.body.write(line);
    }
  }

  /**
   * Simulates a server whose watch cache is behind. The events that were held back come before the bookmark that ends the initial
   * events.
   */
  releaseEventsLate(): void {
    this.releaseEvents((lines) => {
      const isEnd = (line: string): boolean => line.includes('initial-events-end');
      return lines.some(isEnd) ? [...lines.filter((line) => !isEnd(line)), this.#bookmarkLine('', initialEventsEnd)] : lines;
    });
  }

  get watchCount(): number {
    return this.#watchers.size;
  }

  /** 'refuse' means that there is no connection. A request that hangs is answered after serve(). */
  async receive(path: string, signal: AbortSignal): Promise<Reply | 'refuse'> {
    if (path === '/version') return this.acceptsToken ? this.#whole('{"gitVersion":"v1.99.0-double"}') : this.#refusal(unauthorized);
    const request = requestOf(path);
    this.requests.push(request);
    const fault = this.fault(request);
    if (fault === 'refuse') return fault;
    if (fault === 'hang') return (await this.#untilServe(signal), this.#reply(request));
    if (fault === undefined) return this.#reply(request);
    const body = new ResponseBody();
    if ('cutAfter' in fault) body.cutAfter(fault.cutAfter);
    if ('stallAfter' in fault) {
      body.stallAfter(fault.stallAfter ?? Infinity);
      this.#stalled.push(body);
    }
    if ('code' in fault) return this.#refusal(fault, body);
    return 'body' in fault ? this.#whole(fault.body) : this.#reply(request, body);
  }

  #untilServe(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onServe.push(resolve);
    signal.addEventListener('abort', () => resolve(), { once: true });
    return promise;
  }

  #reply(request: ReceivedRequest, body = new ResponseBody()): Reply {
    const { verb, collection, query } = request;
    if (!this.acceptsToken) return this.#refusal(unauthorized);
    if (this.forbidden.has(`${verb} ${collection.resource}`)) return this.#refusal(forbidden(verb, collection));
    if (this.missingKinds.has(collection.kind)) return this.#refusal(notFound);
    return verb === 'list' ? this.#list(collection, query, body) : this.#watch(collection, query, body);
  }

  #refusal(refusal: Refusal, body = new ResponseBody()): Reply {
    const { retryAfter } = refusal;
    const reply = this.#whole(JSON.stringify(statusOf(refusal)), body);
    return { ...reply, status: refusal.code, ...(retryAfter === undefined ? {} : { retryAfter }) };
  }

  #whole(text: string, body = new ResponseBody()): Reply {
    this.#write(body, Buffer.from(text));
    body.end();
    return { status: 200, body };
  }

  #list({ kind, apiVersion }: Collection, query: URLSearchParams, body: ResponseBody): Reply {
    const token = query.get('continue');
    const remaining = token === null ? undefined : this.#remaining.get(token);
    if (token !== null && (remaining === undefined || remaining.revision < this.store.compacted)) return this.#refusal(expiredContinue);
    const { revision, items } = remaining ?? { revision: this.store.revision, items: this.store.all(kind, selectorIn(query)) };
    const limit = Math.min(Number(query.get('limit') ?? 0) || Infinity, this.pageItems);
    const metadata: Record<string, unknown> = { resourceVersion: String(revision) };
    if (items.length > limit) {
      this.#tokens += 1;
      this.#remaining.set(`rest-${this.#tokens}`, { revision, items: items.slice(limit) });
      Object.assign(metadata, { continue: `rest-${this.#tokens}`, remainingItemCount: items.length - limit });
    }
    // Items of a list have no kind and apiVersion.
    const page = items.slice(0, limit).map(({ kind: _kind, apiVersion: _apiVersion, ...fields }) => fields);
    return this.#whole(JSON.stringify({ kind: `${kind}List`, apiVersion, metadata, items: page }), body);
  }

  #watch({ kind }: Collection, query: URLSearchParams, body: ResponseBody): Reply {
    const isStreamingList = query.get('sendInitialEvents') === 'true';
    if (isStreamingList && !this.hasStreamingLists) return this.#refusal(noWatchList);
    const selector = selectorIn(query);
    const from = query.get('resourceVersion') ?? '';
    const missed = isStreamingList ? [] : this.store.since(Number(from));
    if (missed === undefined) {
      const refusal = expired(from, this.store.compacted);
      if (this.sendsExpiredAs === 'status') return this.#refusal(refusal);
      return this.#whole(`${JSON.stringify({ type: 'ERROR', object: statusOf(refusal) })}\n`);
    }
    const watcher: Watcher = { kind, selector, body, isSpoilt: false, held: undefined };
    this.#startWatch(watcher, Number(query.get('timeoutSeconds')) * 1000);
    if (isStreamingList) {
      for (const object of this.store.all(kind, selector)) this.#send(watcher, lineOf({ type: 'ADDED', object }));
      this.#sendBookmark(watcher, initialEventsEnd);
    }
    for (const change of missed) {
      const event = (change.after ?? change.before)?.kind === kind ? eventOf(change, selector) : undefined;
      if (event !== undefined) this.#send(watcher, lineOf(event));
    }
    return { status: 200, body };
  }

  #startWatch(watcher: Watcher, timeoutMs: number): void {
    if (!watcher.body.isOpen) return;
    this.#watchers.add(watcher);
    let cancelBookmark = (): void => undefined;
    const scheduleBookmark = (): void => {
      cancelBookmark = this.#clock.setTimer(BOOKMARK_MS, () => {
        this.#sendBookmark(watcher);
        scheduleBookmark();
      });
    };
    scheduleBookmark();
    const cancelEnd = timeoutMs > 0 ? this.#clock.setTimer(timeoutMs, () => watcher.body.end()) : () => undefined;
    watcher.body.onEnded = () => {
      this.#watchers.delete(watcher);
      cancelBookmark();
      cancelEnd();
    };
  }

  #sendBookmark(watcher: Watcher, annotations?: object): void {
    this.#send(watcher, this.#bookmarkLine(watcher.kind, annotations));
  }

  #bookmarkLine(kind: string, annotations?: object): string {
    const metadata = { resourceVersion: String(this.store.revision), creationTimestamp: null, ...(annotations && { annotations }) };
    return lineOf({ type: 'BOOKMARK', object: { kind, metadata } });
  }

  #send(watcher: Watcher, line: string): void {
    if (this.#isHolding) (watcher.held ??= []).push(line);
    else this.#write(watcher.body, Buffer.from(line));
  }

  #write(body: ResponseBody, bytes: Buffer): void {
    for (let from = 0; from < bytes.length; from += this.pieceBytes) body.write(bytes.subarray(from, from + this.pieceBytes));
  }
}

const lineOf = (event: { type: string; object: object }): string => `${JSON.stringify(event)}\n`;

function requestOf(path: string): ReceivedRequest {
  const url = new URL(path, 'http://api');
  const collection = allCollections.find((each) => each.path === url.pathname);
  if (collection === undefined) throw new Error(`the double has no resource at ${url.pathname}`);
  const verb = url.searchParams.get('watch') === '1' ? 'watch' : 'list';
  return { verb, collection, query: url.searchParams, path };
}

const selectorIn = (query: URLSearchParams): Selector => selectorOf(query.get('labelSelector') ?? '', query.get('fieldSelector') ?? '');
