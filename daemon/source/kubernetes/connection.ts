// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection to the API server, shared by every list and watch, opened when it is asked for. A peer that says
// nothing is noticed by pings, whatever the streams do; a server that did not answer gives way to the next. It never
// retries: reflector.ts does.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import type { Clock } from '../../clock.ts';
import { messageOf } from '../../errors.ts';
import type { ClusterAccess } from './access.ts';
import { type ApiClient, type ApiResponse, Unreachable } from './api-client.ts';

/** For the TCP and TLS handshakes. */
const CONNECT_MS = 3000;
/** A healthy server sends headers at once, also for a watch. */
const ANSWER_MS = 10_000;
const PING_EVERY_MS = 3000;
const PONG_MS = 3000;
/** What the server may send ahead of us, per stream and in all: a long list in few round trips. */
const WINDOW = 1 << 20;

export interface ConnectionOptions {
  readonly access: ClusterAccess;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** "sluiced/0.1.0". */
  readonly userAgent: string;
}

interface Open {
  readonly session: ClientHttp2Session;
  readonly server: string;
}

export class Connection implements ApiClient {
  readonly #options: ConnectionOptions;
  #opening: Promise<Open> | undefined;
  /** Index of the server that is asked next. */
  #at = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  async get(path: string, signal: AbortSignal): Promise<ApiResponse> {
    signal.throwIfAborted();
    const { access, userAgent } = this.#options;
    const authorization = await access.authorization();
    const { session, server } = await orAborted(this.#opened(), signal);
    const headers = { ':path': path, accept: 'application/json', 'user-agent': userAgent };
    const failed = (why: string, cause?: unknown): unknown =>
      signal.aborted ? signal.reason : new Unreachable(`${server} ${why}`, { cause });
    const stream = requested(
      () => session.request(authorization === undefined ? headers : { ...headers, authorization }, { signal }),
      failed,
    );
    const answer = await this.#answer(stream, failed);
    const status = Number(answer[':status']);
    if (status === 401) access.forget();
    const retryAfter = Number(answer['retry-after']);
    return { status, ...(retryAfter >= 0 ? { retryAfter } : {}), body: bodyOf(stream, failed) };
  }

  /** Ends every stream. A later get() connects again. */
  close(): void {
    const opening = this.#opening;
    this.#opening = undefined;
    opening?.then(
      ({ session }) => session.destroy(),
      () => undefined,
    );
  }

  #answer(stream: ClientHttp2Stream, failed: (why: string, cause?: unknown) => unknown): Promise<IncomingHttpHeaders> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingHttpHeaders>();
    const cancel = this.#options.clock.setTimer(ANSWER_MS, () => {
      reject(failed(`has not answered for ${ANSWER_MS / 1000} s`));
      stream.close(constants.NGHTTP2_CANCEL);
    });
    // The listener stays: an error after the answer reaches whoever reads the body.
    stream.on('error', (error) => reject(failed(`cut the connection: ${error.message}`, error)));
    stream.once('close', () => reject(failed('closed the connection')));
    stream.once('response', resolve);
    return promise.finally(cancel);
  }

  /** The connection that there is, or a new one. */
  #opened(): Promise<Open> {
    if (this.#opening !== undefined) return this.#opening;
    const opening = this.#open(() => {
      if (this.#opening === opening) this.#opening = undefined;
    });
    this.#opening = opening;
    return opening;
  }

  /** `onEnded`: nobody may begin anything on it any more. */
  async #open(onEnded: () => void): Promise<Open> {
    const { servers } = this.#options.access;
    const url = servers[this.#at % servers.length];
    if (url === undefined) throw new Error('access names no server');
    try {
      const session = await this.#connect(url, onEnded);
      this.#watchOver(session, url.origin);
      return { session, server: url.origin };
    } catch (error) {
      this.#at += 1;
      onEnded();
      throw error;
    }
  }

  async #connect(url: URL, onEnded: () => void): Promise<ClientHttp2Session> {
    const tls = url.protocol === 'https:' ? await this.#options.access.tls() : {};
    const { promise, resolve, reject } = Promise.withResolvers<ClientHttp2Session>();
    const session = connect(url, { ...tls, settings: { enablePush: false, initialWindowSize: WINDOW } });
    const cancel = this.#options.clock.setTimer(CONNECT_MS, () => {
      session.destroy(new Error(`no connection within ${CONNECT_MS / 1000} s`));
    });
    session.on('error', (error) => reject(new Unreachable(`${url.origin} cannot be reached: ${messageOf(error)}`, { cause: error })));
    session.once('close', () => {
      reject(new Unreachable(`${url.origin} closed the connection`));
      onEnded();
    });
    // The server is about to go: what runs may end, what comes next goes to another.
    session.once('goaway', onEnded);
    session.once('remoteSettings', () => {
      session.setLocalWindowSize(WINDOW);
      resolve(session);
    });
    return promise.finally(cancel);
  }

  /** Pings as long as it lives. */
  #watchOver(session: ClientHttp2Session, server: string): void {
    const { clock } = this.#options;
    const ping = (): void => {
      if (session.destroyed) return;
      const dead = (): void => session.destroy(new Error(`${server} has not answered a ping for ${PONG_MS / 1000} s`));
      const cancel = clock.setTimer(PONG_MS, dead);
      session.ping(() => {
        cancel();
        cancelNext = clock.setTimer(PING_EVERY_MS, ping);
      });
    };
    let cancelNext = clock.setTimer(PING_EVERY_MS, ping);
    session.once('close', () => cancelNext());
  }
}

async function* bodyOf(stream: ClientHttp2Stream, failed: (why: string, cause?: unknown) => unknown): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw failed(`cut the connection: ${messageOf(error)}`, error);
  } finally {
    if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  }
}

/** The connection may have ended since it was asked for. */
function requested(request: () => ClientHttp2Stream, failed: (why: string, cause?: unknown) => unknown): ClientHttp2Stream {
  try {
    return request();
  } catch (error) {
    throw failed(`closed the connection: ${messageOf(error)}`, error);
  }
}

/** The promise's outcome, or the signal's reason if that comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
