// SPDX-License-Identifier: Apache-2.0
// List and watch of one resource as streams of what the server said: pages of a list, events of a watch. A refusal is thrown
// as ApiStatus, a cut as Unreachable. It remembers nothing and never retries: reflector.ts does both.
import type { Clock } from '../../clock.ts';
import { type ApiClient, Unreachable } from './api-client.ts';
import { ApiStatus, statusOfAnswer, statusOfEvent } from './api-status.ts';
import { LineDecoder, ListDecoder } from './json-stream.ts';
import type { Resource } from './resources.ts';

const PAGE = 500;
/** A watch is asked to end after this long, so that one that the server has forgotten does not last. */
const WATCH_SECONDS = 300;
/** Beyond that it is over, whatever the server thinks. */
const GRACE_SECONDS = 30;
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

/** All objects, in pieces as they arrive, then the resourceVersion to watch from. */
export async function* list(asking: Asking): AsyncGenerator<Page> {
  let position = '';
  let resourceVersion = '';
  do {
    const query = { ...asking.resource.selectors, limit: String(PAGE), ...(position === '' ? {} : { continue: position }) };
    const decoder = new ListDecoder();
    for await (const piece of await body(asking, query)) yield { items: decoded(asking, () => decoder.push(piece)) };
    const { metadata } = decoded(asking, () => decoder.end()) as { metadata?: { continue?: string; resourceVersion?: string } };
    position = metadata?.continue ?? '';
    resourceVersion = metadata?.resourceVersion ?? '';
  } while (position !== '');
  if (resourceVersion === '') throw new ApiStatus(500, { message: `the list of ${asking.resource.name} has no resourceVersion` });
  yield { resourceVersion };
}

/**
 * Events, as many as arrive together at once (none: the server has agreed), until the server ends the stream. From where: after a resourceVersion, or
 * from every object that there is now as an ADDED event, with a bookmark behind the last of these.
 */
export async function* watch(asking: Asking, from: { readonly resourceVersion: string } | 'initial events'): AsyncGenerator<WatchEvent[]> {
  const start: Record<string, string> =
    from === 'initial events'
      ? { sendInitialEvents: 'true', resourceVersionMatch: 'NotOlderThan' }
      : { resourceVersion: from.resourceVersion };
  // Not all nodes at the same time.
  const seconds = Math.round(WATCH_SECONDS * (1 + asking.random()));
  const over = new AbortController();
  const cancel = asking.clock.setTimer((seconds + GRACE_SECONDS) * 1000, () => {
    over.abort(new Unreachable(`the watch of ${asking.resource.name} did not end after ${seconds} s as it was asked to`));
  });
  const signal = AbortSignal.any([asking.signal, over.signal]);
  const query = { ...asking.resource.selectors, watch: '1', allowWatchBookmarks: 'true', timeoutSeconds: String(seconds), ...start };
  const decoder = new LineDecoder();
  try {
    const pieces = await body({ ...asking, signal }, query);
    yield [];
    for await (const piece of pieces) {
      const lines = decoder.push(piece);
      if (lines.length > 0) yield lines.map((line) => eventOf(decoded(asking, () => JSON.parse(line) as unknown)));
    }
  } finally {
    cancel();
  }
}

async function body({ client, resource, signal }: Asking, query: Readonly<Record<string, string>>): Promise<AsyncIterable<Uint8Array>> {
  const answer = await client.get(`${resource.path}?${new URLSearchParams(query).toString()}`, signal);
  if (answer.status !== 200) throw await statusOfAnswer(answer);
  return answer.body;
}

/** What is no JSON was cut or garbled on its way. */
function decoded<T>({ resource }: Asking, decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new Unreachable(`the server sent what is no JSON as ${resource.name}`, { cause: error });
  }
}

interface RawEvent {
  readonly type?: unknown;
  readonly object?: {
    readonly metadata?: { readonly resourceVersion?: unknown; readonly annotations?: Readonly<Record<string, unknown>> };
  };
}

function eventOf(raw: unknown): WatchEvent {
  const { type, object } = raw as RawEvent;
  const given = object?.metadata?.resourceVersion;
  const resourceVersion = typeof given === 'string' ? given : '';
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED':
      return { type, object, resourceVersion };
    case 'BOOKMARK':
      return { type, resourceVersion, endsInitialEvents: object?.metadata?.annotations?.[endOfInitialEvents] === 'true' };
    case 'ERROR':
      throw statusOfEvent(object);
    default:
      throw new Unreachable(`the server sent an event of unknown type ${JSON.stringify(type)}`);
  }
}
