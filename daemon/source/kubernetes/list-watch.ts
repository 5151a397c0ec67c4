// SPDX-License-Identifier: Apache-2.0
// LIST and WATCH of one resource as streams: the pages of a list, and the events of a watch. A refusal is thrown as StatusError, an
// interruption as UnreachableError, and more data than limits.ts allows as LimitError. It keeps no state and never retries; reflector.ts
// does both.
import type { Clock } from '../../base/clock.ts';
import { type ApiClient, UnreachableError } from './api-client.ts';
import { sizeText } from '../../base/bounded-read.ts';
import { show } from '../convert/fields.ts';
import { LimitError, LineDecoder, ListDecoder, parseLine } from './json-stream.ts';
import { MAX_LIST_BYTES, MAX_OBJECTS, MAX_PAGES } from './limits.ts';
import type { Resource } from './resources.ts';
import { statusOfEvent, statusOfResponse } from './status-error.ts';

const PAGE_SIZE = 500;
/** Minimum of timeoutSeconds of a watch. Every watch ends at some time, because the server may lose track of a watch. */
const WATCH_SECONDS = 300;
/** A watch is given up if the server does not end it this long after timeoutSeconds. */
const GRACE_SECONDS = 30;
/**
 * The longest pause between two pieces of a list or of the initial events. It detects a server that hangs while its connection
 * works.
 */
const SILENCE_SECONDS = 10;
/**
 * The longest pause in a watch with bookmarks. kube-apiserver sends a bookmark each minute and sometimes skips one; after this
 * pause, three bookmarks are missing.
 */
const BOOKMARK_SECONDS = 200;
/** Annotation on the bookmark after the initial events (KEP-3157). */
const initialEventsEnd = 'k8s.io/initial-events-end';

export interface ResourceRequest {
  readonly client: ApiClient;
  readonly resource: Resource;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** Returns numbers in [0, 1). */
  readonly random: () => number;
  readonly signal: AbortSignal;
}

export type WatchEvent =
  | { readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'; readonly object: unknown; readonly resourceVersion: string }
  | { readonly type: 'BOOKMARK'; readonly resourceVersion: string; readonly endsInitialEvents: boolean };

export type Page =
  | { readonly items: readonly unknown[] }
  /** The last element, after the end of the list. */
  | { readonly resourceVersion: string };

/** The response is malformed or reports a failure of the server, so the state of the server is unknown. */
export class MalformedResponseError extends Error {
  override readonly name = 'MalformedResponseError';
}

/** Lists the resource. Yields all objects in the pieces in which they arrive, and then the resourceVersion from which to watch. */
export async function* list(given: ResourceRequest): AsyncGenerator<Page> {
  const deadline = new Deadline(given);
  const request = { ...given, signal: deadline.signal };
  let continueToken = '';
  let resourceVersion = '';
  const total = new ListTotal();
  try {
    do {
      total.add({ pages: 1 });
      const query = {
        ...request.resource.selectors,
        limit: String(PAGE_SIZE),
        ...(continueToken === '' ? {} : { continue: continueToken }),
      };
      const decoder = new ListDecoder();
      for await (const piece of await fetchBody(request, query, deadline)) {
        deadline.set(SILENCE_SECONDS, silence);
        const items = decode(() => decoder.push(piece));
        for (const item of items) requireKind(item, request.resource.kind);
        total.add({ bytes: piece.length, objects: items.length });
        yield { items };
      }
      deadline.clear();
      ({ continueToken, resourceVersion } = frameOf(
        decode(() => decoder.end()),
        request.resource.kind,
      ));
    } while (continueToken !== '');
  } finally {
    deadline.clear();
  }
  if (resourceVersion === '') throw new MalformedResponseError('the server sent a list without a resourceVersion');
  yield { resourceVersion };
}

/**
 * Yields arrays of events that arrived together, until the server ends the stream. The first array is empty and means that the
 * server has accepted the watch. A watch from a resourceVersion yields later changes. A watch from 'initial events' begins with an
 * ADDED event for each existing object, followed by a bookmark. A server whose cache is behind may send later changes before this
 * bookmark.
 */
export async function* watch(
  given: ResourceRequest,
  from: { readonly resourceVersion: string } | 'initial events',
): AsyncGenerator<WatchEvent[]> {
  const isInitial = from === 'initial events';
  const start: Record<string, string> = isInitial
    ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
    : { resourceVersion: from.resourceVersion };
  const total = new Deadline(given);
  const deadline = new Deadline({ ...given, signal: total.signal });
  const request = { ...given, signal: deadline.signal };
  // The time is random, so that the watches of the nodes do not end at the same time.
  const seconds = Math.round(WATCH_SECONDS * (1 + request.random()));
  const query = { ...request.resource.selectors, watch: '1', allowWatchBookmarks: 'true', timeoutSeconds: String(seconds), ...start };
  const decoder = new LineDecoder();
  const initial = new ListTotal();
  const startTotal = (): void => {
    deadline.clear();
    total.set(seconds + GRACE_SECONDS, (limit) => `the server did not end a watch of ${seconds} s within ${limit} s`);
  };
  try {
    const pieces = await fetchBody(request, query, deadline);
    if (!isInitial) startTotal();
    yield [];
    let isBeforeEnd = isInitial;
    let hasBookmarks = false;
    for await (const piece of pieces) {
      if (isBeforeEnd) deadline.set(SILENCE_SECONDS, silence);
      const events = decode(() => decoder.push(piece)).map((line) =>
        eventOf(
          decode(() => parseLine(line)),
          given.resource.kind,
        ),
      );
      if (isBeforeEnd) initial.add({ bytes: piece.length, objects: events.length });
      const bookmarks = events.filter((event) => event.type === 'BOOKMARK');
      hasBookmarks ||= bookmarks.some((bookmark) => !bookmark.endsInitialEvents);
      if (isBeforeEnd && bookmarks.some((bookmark) => bookmark.endsInitialEvents)) {
        isBeforeEnd = false;
        startTotal();
      }
      if (hasBookmarks && !isBeforeEnd) deadline.set(BOOKMARK_SECONDS, noBookmark);
      if (events.length > 0) yield events;
    }
  } finally {
    deadline.clear();
    total.clear();
  }
}

/** Number of pages, bytes and objects that the agent has received for one list, with their limits. */
class ListTotal {
  readonly #total = { pages: 0, bytes: 0, objects: 0 };

  /** Throws LimitError. */
  add({ pages = 0, bytes = 0, objects = 0 }: { readonly pages?: number; readonly bytes?: number; readonly objects?: number }): void {
    const total = this.#total;
    total.pages += pages;
    total.bytes += bytes;
    total.objects += objects;
    if (total.pages > MAX_PAGES) throw new LimitError(`the server sent a list of more than ${MAX_PAGES} pages`);
    if (total.bytes > MAX_LIST_BYTES) throw new LimitError(`the server sent a list of more than ${sizeText(MAX_LIST_BYTES)}`);
    if (total.objects > MAX_OBJECTS) throw new LimitError(`the server sent a list of more than ${MAX_OBJECTS} objects`);
  }
}

const noBookmark = (seconds: number): string => `the server sent neither an event nor a bookmark for ${seconds} s`;

const silence = (seconds: number): string => `the server sent nothing for ${seconds} s before the end of its response`;

/** Aborts a request with UnreachableError when the deadline is neither set again nor cleared in time. */
class Deadline {
  /** Aborted when the deadline expires or the given signal is aborted. */
  readonly signal: AbortSignal;
  readonly #clock: ResourceRequest['clock'];
  readonly #expired = new AbortController();
  #cancel = (): void => undefined;

  constructor({ clock, signal }: Pick<ResourceRequest, 'clock' | 'signal'>) {
    this.#clock = clock;
    this.signal = AbortSignal.any([signal, this.#expired.signal]);
  }

  set(seconds: number, message: (seconds: number) => string): void {
    this.clear();
    this.#cancel = this.#clock.setTimer(seconds * 1000, () => this.#expired.abort(new UnreachableError(message(seconds))));
  }

  clear(): void {
    this.#cancel();
  }
}

async function fetchBody(
  { client, resource, signal }: ResourceRequest,
  query: Readonly<Record<string, string>>,
  deadline: Deadline,
): Promise<AsyncIterable<Uint8Array>> {
  const response = await client.get(`${resource.path}?${new URLSearchParams(query).toString()}`, signal);
  deadline.set(SILENCE_SECONDS, silence);
  if (response.status !== 200) throw await statusOfResponse(response);
  return response.body;
}

function decode<T>(decoder: () => T): T {
  try {
    return decoder();
  } catch (error) {
    if (error instanceof LimitError) throw error;
    throw new MalformedResponseError('the server sent invalid JSON', { cause: error });
  }
}

/**
 * What a page says about the list, from its text without the items. Throws MalformedResponseError for anything that is not a page of a
 * list of this kind: an answer without items, such as a Table, would otherwise be an empty list, and all rows would be deleted.
 */
function frameOf(raw: unknown, kind: string): { readonly continueToken: string; readonly resourceVersion: string } {
  const frame = (raw ?? {}) as { readonly kind?: unknown; readonly items?: unknown; readonly metadata?: unknown };
  const isOfKind = frame.kind === undefined || frame.kind === `${kind}List` || frame.kind === 'List';
  // null is the text of an empty list in Go.
  if (!isOfKind || !(Array.isArray(frame.items) || frame.items === null))
    throw new MalformedResponseError(`the server sent something else than a list of this kind (kind ${show(frame.kind)})`);
  const metadata = (frame.metadata ?? {}) as { readonly continue?: unknown; readonly resourceVersion?: unknown };
  return {
    continueToken: textField(metadata.continue, 'continue'),
    resourceVersion: textField(metadata.resourceVersion, 'resourceVersion'),
  };
}

function textField(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  if (value === undefined || value === null) return '';
  throw new MalformedResponseError(`the server sent a list whose metadata.${name} is ${show(value)}, not a string`);
}

/** Throws MalformedResponseError for an object of another kind. Items of a list usually state no kind. */
function requireKind(object: unknown, kind: string): void {
  const found = (object as { readonly kind?: unknown } | null | undefined)?.kind;
  if (found !== undefined && found !== kind) throw new MalformedResponseError(`the server sent an object of kind ${show(found)}`);
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

function eventOf(raw: unknown, kind: string): WatchEvent {
  const { type, object } = (raw ?? {}) as RawEvent;
  const given = object?.metadata?.resourceVersion;
  const resourceVersion = typeof given === 'string' ? given : '';
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      if (typeof object?.metadata?.name !== 'string')
        throw new MalformedResponseError(`the server sent an ${type} event without an object`);
      requireKind(object, kind);
      return { type, object, resourceVersion };
    case 'BOOKMARK':
      return { type, resourceVersion, endsInitialEvents: object?.metadata?.annotations?.[initialEventsEnd] === 'true' };
    case 'ERROR': {
      const status = statusOfEvent(object);
      if (status.isExpired) throw status;
      throw new MalformedResponseError(`the server ended a watch with an error (${status.code} ${status.message})`);
    }
    default:
      throw new MalformedResponseError(`the server sent an event of unknown type ${show(type)}`);
  }
}
