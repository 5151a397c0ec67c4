// SPDX-License-Identifier: Apache-2.0
// List and watch of one resource as streams of what the server said: pages of a list, events of a watch. A refusal is thrown
// as ApiStatus, a cut as Unreachable. It remembers nothing and never retries: reflector.ts does both.
import type { Clock } from '../../base/clock.ts';
import { type ApiClient, Unreachable } from './api-client.ts';
import { statusOfAnswer, statusOfEvent } from './api-status.ts';
import { LineDecoder, ListDecoder } from './json-stream.ts';
import type { Resource } from './resources.ts';

const PAGE = 500;
/** A watch is asked to end after this long, so that one that the server has forgotten does not last. */
const WATCH_SECONDS = 300;
/** Beyond that it is over, whatever the server thinks. */
const GRACE_SECONDS = 30;
/** In the middle of a list: the connection may be well and the server behind it stuck. */
const SILENCE_SECONDS = 10;
/** Of a watch in which bookmarks come: three are missing. kube-apiserver sends one a minute, and skips one now and then. */
const BOOKMARK_SECONDS = 200;
/** What the API server writes on the bookmark behind the initial events (KEP-3157). */
const endOfInitialEvents = 'k8s.io/initial-events-end';

export interface Asking {
  readonly client: ApiClient;
  readonly resource: Resource;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** In [0, 1). */
  readonly random: () => number;
  readonly signal: AbortSignal;
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: unknown; readonly resourceVersion: string }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly endsInitialEvents: boolean };

export type Page =
  | { readonly items: readonly unknown[] }
  /** The last of all. */
  | { readonly resourceVersion: string };

/** The server said what makes no sense, or that it has failed: whatever is known of what it holds is in doubt. */
export class Garbled extends Error {
  override readonly name = 'Garbled';
}

/** All objects, in pieces as they arrive, then the resourceVersion to watch from. */
export async function* list(given: Asking): AsyncGenerator<Page> {
  const { asking, within, done } = limited(given);
  let position = '';
  let resourceVersion = '';
  try {
    do {
      const query = { ...asking.resource.selectors, limit: String(PAGE), ...(position === '' ? {} : { continue: position }) };
      const decoder = new ListDecoder();
      for await (const piece of await body(asking, query, within)) {
        within(SILENCE_SECONDS, silent);
        yield { items: decoded(() => decoder.push(piece)) };
      }
      done();
      const { metadata } = (decoded(() => decoder.end()) ?? {}) as { metadata?: { continue?: string; resourceVersion?: string } };
      position = metadata?.continue ?? '';
      resourceVersion = metadata?.resourceVersion ?? '';
    } while (position !== '');
  } finally {
    done();
  }
  if (resourceVersion === '') throw new Garbled('the server sent a list without a resourceVersion');
  yield { resourceVersion };
}

/**
 * Events, as many as arrive together at once (none: the server has agreed), until the server ends the stream. From where: after a
 * resourceVersion, or from every object that there is now as an ADDED event, with a bookmark behind the last of these; a
 * server that lags behind itself may say before it what became of some of them.
 */
export async function* watch(given: Asking, from: { readonly resourceVersion: string } | 'initial events'): AsyncGenerator<WatchEvent[]> {
  const isInitial = from === 'initial events';
  const start: Record<string, string> = isInitial
    ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
    : { resourceVersion: from.resourceVersion };
  const whole = limited(given);
  const { asking, within, done } = limited(whole.asking);
  // Not all nodes at the same time.
  const seconds = Math.round(WATCH_SECONDS * (1 + asking.random()));
  const query = { ...asking.resource.selectors, watch: '1', allowWatchBookmarks: 'true', timeoutSeconds: String(seconds), ...start };
  const decoder = new LineDecoder();
  const untilOver = (): void => {
    done();
    whole.within(seconds + GRACE_SECONDS, (limit) => `the server did not end a watch of ${seconds} s after ${limit} s`);
  };
  try {
    const pieces = await body(asking, query, within);
    if (!isInitial) untilOver();
    yield [];
    let isWaiting = isInitial;
    let hasBookmarks = false;
    for await (const piece of pieces) {
      if (isWaiting) within(SILENCE_SECONDS, silent);
      const events = decoder.push(piece).map((line) => eventOf(decoded(() => JSON.parse(line) as unknown)));
      const bookmarks = events.filter((event) => event.type === 'BOOKMARK');
      hasBookmarks ||= bookmarks.some((bookmark) => !bookmark.endsInitialEvents);
      if (isWaiting && bookmarks.some((bookmark) => bookmark.endsInitialEvents)) {
        isWaiting = false;
        untilOver();
      }
      if (hasBookmarks && !isWaiting) within(BOOKMARK_SECONDS, forgotten);
      if (events.length > 0) yield events;
    }
  } finally {
    done();
    whole.done();
  }
}

type Within = (seconds: number, why: (seconds: number) => string) => void;

const forgotten = (seconds: number): string => `the server has sent nothing for ${seconds} s, no bookmark either`;

const silent = (seconds: number): string => `the server has said nothing for ${seconds} s in the middle of its answer`;

/** The same request, given up when within() is not said again, or done(), in time. */
function limited(asking: Asking): { asking: Asking; within: Within; done: () => void } {
  const over = new AbortController();
  let cancel = (): void => undefined;
  const within: Within = (seconds, why) => {
    cancel();
    cancel = asking.clock.setTimer(seconds * 1000, () => over.abort(new Unreachable(why(seconds))));
  };
  return { asking: { ...asking, signal: AbortSignal.any([asking.signal, over.signal]) }, within, done: () => cancel() };
}

async function body(
  { client, resource, signal }: Asking,
  query: Readonly<Record<string, string>>,
  within: Within,
): Promise<AsyncIterable<Uint8Array>> {
  const answer = await client.get(`${resource.path}?${new URLSearchParams(query).toString()}`, signal);
  within(SILENCE_SECONDS, silent);
  if (answer.status !== 200) throw await statusOfAnswer(answer);
  return answer.body;
}

function decoded<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new Garbled('the server sent what is no JSON', { cause: error });
  }
}

interface RawEvent {
  readonly type?: unknown;
  readonly object?: {
    readonly metadata?: {
      readonly name?: unknown;
      readonly resourceVersion?: unknown;
      readonly annotations?: Readonly<Record<string, unknown>>;
    } | null;
  } | null;
}

function eventOf(raw: unknown): WatchEvent {
  const { type, object } = (raw ?? {}) as RawEvent;
  const given = object?.metadata?.resourceVersion;
  const resourceVersion = typeof given === 'string' ? given : '';
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      if (typeof object?.metadata?.name !== 'string') throw new Garbled(`the server sent an event ${type} of no object`);
      return { type, object, resourceVersion };
    case 'BOOKMARK':
      return { type, resourceVersion, endsInitialEvents: object?.metadata?.annotations?.[endOfInitialEvents] === 'true' };
    case 'ERROR': {
      const status = statusOfEvent(object);
      throw status.isExpired ? status : new Garbled(`the server ended a watch with an error (${status.code} ${status.message})`);
    }
    default:
      throw new Garbled(`the server sent an event of unknown type ${JSON.stringify(type)}`);
  }
}
