// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection to the API server, shared by all lists and watches and opened on demand. Pings detect a peer that
// stopped responding, whatever the streams do. After a failure the next server is tried. It never retries a request;
// reflector.ts does.
import { lookup, type LookupAddress } from 'node:dns';
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { doubledMs } from '../../base/back-off.ts';
import { sizeText } from '../../base/bounded-read.ts';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { ClusterAccess, TlsMaterial } from './access.ts';
import { type ApiServerAddresses, hostOf, portOf } from './api-server-addresses.ts';
import { type ApiClient, type ApiResponse, CredentialError, UnreachableError } from './api-client.ts';
import { MAX_HEADER_BYTES, MAX_HEADERS } from './limits.ts';
import { Redactor } from './redact.ts';

/** Time limit for name resolution. A resolver tries the next name server after 5 s. */
const LOOKUP_MS = 12_000;
/**
 * Time limit for the TCP connection. A working server accepts within this time. The limit is short, so that a failed server is noticed
 * soon.
 */
const CONNECT_MS = 2000;
/**
 * Time limit for TLS and HTTP/2. It is doubled after each time-out, because a server responds slowly when all nodes connect at the same
 * time.
 */
const HANDSHAKE_LIMITS = { firstMs: 2000, mostMs: 8000 };
/** Time limit for the response headers. A working server sends the headers at once, also for a watch. */
const RESPONSE_MS = 10_000;
const PING_INTERVAL_MS = 3000;
const PONG_MS = 3000;
/** Flow-control window per stream and per connection, large enough for a long list in few round trips. */
const WINDOW_BYTES = 1 << 20;

export interface ConnectionOptions {
  readonly access: ClusterAccess;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** "sluiced/0.1.0". */
  readonly userAgent: string;
  /** Is informed of the addresses to which names of servers resolve, and of the connections that are open. */
  readonly addresses?: Pick<ApiServerAddresses, 'resolved' | 'connected'>;
}

interface OpenConnection {
  readonly session: ClientHttp2Session;
  /** Origin of the server. */
  readonly server: string;
  /** Prefix of all paths: an API server behind a proxy may have a path in its address. */
  readonly prefix: string;
  /**
   * Makes the next request open another connection to the same server. The present connection closes when its streams have ended.
   * Idempotent.
   */
  readonly renew: () => void;
  /** Like renew(), but the next request connects to the next server in the list. */
  readonly leave: () => void;
}

/** Makes an error with the given message, for the caller to throw. */
type MakeError = (message: string, cause?: unknown) => unknown;

export class Connection implements ApiClient {
  readonly #options: ConnectionOptions;
  readonly #redactor = new Redactor();
  /** Aborted by close(). */
  readonly #closing = new AbortController();
  /** Number of handshakes in a row that timed out. */
  #handshakeTimeouts = 0;
  #current: Promise<OpenConnection> | undefined;
  /** Index of the server for the next connection. */
  #serverIndex = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  async get(path: string, signal: AbortSignal): Promise<ApiResponse> {
    signal.throwIfAborted();
    const { access, userAgent } = this.#options;
    const authorization = await orAborted(access.authorization(), signal);
    this.#redactor.remember(authorization);
    signal.throwIfAborted();
    const connection = await orAborted(this.#open(), signal);
    const { session, server, prefix } = connection;
    const headers = { ':path': prefix + path, accept: 'application/json', 'user-agent': userAgent };
    const makeError: MakeError = (message, cause) => (signal.aborted ? signal.reason : new UnreachableError(message, { cause }));
    const stream = orError(
      () => session.request(authorization === undefined ? headers : { ...headers, authorization }, { signal }),
      (cause) => makeError(`a request to ${server} cannot be sent: ${messageOf(cause)}`, cause),
    );
    const responseHeaders = await this.#responseHeaders(stream, connection, makeError);
    const status = Number(responseHeaders[':status']);
    if (status === 401) {
      access.invalidate(authorization);
      // A client certificate is presented once per connection, so a rotated certificate requires another connection.
      connection.renew();
    }
    // The server may have lost etcd, so the next request goes to the next server. If there is only one server, its connection is kept,
    // because the server may recover.
    if (status >= 500 && access.servers.length > 1) connection.leave();
    const retryAfter = Number(responseHeaders['retry-after']);
    return { status, ...(retryAfter >= 0 ? { retryAfter } : {}), body: bodyOf(stream, server, makeError) };
  }

  redact(text: string): string {
    return this.#redactor.redact(text);
  }

  /** Ends all streams. No request is accepted afterwards. */
  close(): void {
    this.#closing.abort(new UnreachableError('the connection was closed'));
    this.#options.access.close();
  }

  #responseHeaders(stream: ClientHttp2Stream, { server, leave }: OpenConnection, makeError: MakeError): Promise<IncomingHttpHeaders> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingHttpHeaders>();
    const cancel = this.#after(RESPONSE_MS, () => {
      reject(makeError(`${server} did not respond within ${RESPONSE_MS / 1000} s`));
      stream.close(constants.NGHTTP2_CANCEL);
      // The connection is replaced, because the pings may not detect this failure: a server that does not respond to requests may still
      // answer pings.
      leave();
    });
    // This listener stays after the response, because an error without a listener would end the process. The reader of the body
    // receives later errors too.
    stream.on('error', (error) => reject(makeError(interrupted(server, error), error)));
    stream.once('close', () => reject(makeError(`${server} closed the connection`)));
    stream.once('response', (headers: IncomingHttpHeaders) => {
      if (sizeOf(headers) <= MAX_HEADER_BYTES) return resolve(headers);
      reject(makeError(`${server} sent headers of more than ${sizeText(MAX_HEADER_BYTES)}`));
      stream.close(constants.NGHTTP2_CANCEL);
    });
    return promise.finally(cancel);
  }

  /** Returns the present connection, or opens a new one. */
  #open(): Promise<OpenConnection> {
    if (this.#current !== undefined) return this.#current;
    const opening = this.#openNew(() => {
      if (this.#current === opening) this.#current = undefined;
    });
    this.#current = opening;
    return opening;
  }

  /** Calls `onEnded` when the connection accepts no new requests. */
  async #openNew(onEnded: () => void): Promise<OpenConnection> {
    const { servers } = this.#options.access;
    const index = this.#serverIndex % servers.length;
    const url = servers[index];
    if (url === undefined) throw new Error('no API server address is configured');
    const useNextServer = (): void => {
      onEnded();
      if (this.#serverIndex === index) this.#serverIndex = (index + 1) % servers.length;
    };
    try {
      const { session, socket } = await this.#connect(url, onEnded);
      this.#startPings(session, { socket, onDead: useNextServer });
      const renew = (): void => {
        onEnded();
        session.close();
      };
      const leave = (): void => {
        useNextServer();
        session.close();
      };
      return { session, server: url.origin, prefix: url.pathname.replace(/\/+$/, ''), renew, leave };
    } catch (error) {
      useNextServer();
      throw error;
    }
  }

  async #connect(url: URL, onEnded: () => void): Promise<{ session: ClientHttp2Session; socket: Socket }> {
    const closing = this.#closing.signal;
    closing.throwIfAborted();
    const tls = url.protocol === 'https:' ? await this.#options.access.tls() : undefined;
    closing.throwIfAborted();
    this.#redactor.remember(tls?.key);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const socket = orError(
      () => socketTo(url, { tls, onResolved: (found) => this.#options.addresses?.resolved(url, found) }),
      (cause) => new CredentialError(`${this.#options.access.description} cannot be used: ${messageOf(cause)}`, { cause }),
    );
    const settings = { enablePush: false, initialWindowSize: WINDOW_BYTES };
    const session = connect(url, { createConnection: () => socket, settings, maxHeaderListPairs: MAX_HEADERS });
    socket.once('connect', () => {
      const closed = this.#options.addresses?.connected(url, socket.remoteAddress ?? '');
      if (closed !== undefined) socket.once('close', closed);
    });
    const destroy = (): void => session.destroy();
    closing.addEventListener('abort', destroy);
    const cancel = this.#limitSteps(socket, (reason) => session.destroy(new Error(reason)));
    session.on('error', (cause) => reject(new UnreachableError(`${url.origin} cannot be reached: ${connectReason(cause)}`, { cause })));
    session.once('close', () => {
      closing.removeEventListener('abort', destroy);
      reject(new UnreachableError(`${url.origin} closed the connection`));
      onEnded();
    });
    // The server is shutting down. Present streams may finish, and new requests use another connection.
    session.once('goaway', onEnded);
    session.once('remoteSettings', () => {
      session.setLocalWindowSize(WINDOW_BYTES);
      this.#handshakeTimeouts = 0;
      resolve();
    });
    return promise.then(() => ({ session, socket })).finally(cancel);
  }

  /**
   * Limits each step of connecting: name resolution, TCP, and the handshakes. Returns a function that cancels the last
   * limit.
   */
  #limitSteps(socket: Socket, giveUp: (reason: string) => void): () => void {
    let cancel = (): void => undefined;
    const limit = (ms: number, step: string, onTimeout: () => void = () => undefined): void => {
      cancel();
      cancel = this.#after(ms, () => {
        onTimeout();
        giveUp(`no ${step} within ${ms / 1000} s`);
      });
    };
    const timeouts = this.#handshakeTimeouts;
    const handshakeMs = doubledMs(timeouts + 1, HANDSHAKE_LIMITS);
    limit(LOOKUP_MS, 'name resolution');
    // Node emits this event after name resolution, and immediately for an IP address.
    socket.once('connectionAttempt', () => limit(CONNECT_MS, 'TCP connection'));
    socket.once('connect', () => limit(handshakeMs, 'TLS and HTTP/2 handshake', () => (this.#handshakeTimeouts = timeouts + 1)));
    return () => cancel();
  }

  /** Sends pings until the session is closed. */
  #startPings(session: ClientHttp2Session, { socket, onDead }: { socket: Socket; onDead: () => void }): void {
    let cancel = (): void => undefined;
    const ping = (): void => {
      if (session.destroyed) {
        // The session ended normally, but the server has not closed its side of the connection.
        socket.destroy();
        return;
      }
      cancel = this.#after(PONG_MS, () => {
        onDead();
        session.destroy(new Error(`no answer to a ping within ${PONG_MS / 1000} s`));
        socket.destroy();
      });
      session.ping(() => {
        cancel();
        cancel = this.#after(PING_INTERVAL_MS, ping);
      });
    };
    cancel = this.#after(PING_INTERVAL_MS, ping);
    session.once('close', () => cancel());
  }

  /**
   * Runs the task after `ms`. This process may have been busy, so data that has already arrived is read before the task runs.
   * Returns a function that cancels the task.
   */
  #after(ms: number, task: () => void): () => void {
    let isCancelled = false;
    const cancel = this.#options.clock.setTimer(ms, () => {
      setImmediate(() => {
        if (!isCancelled) task();
      });
    });
    return () => {
      isCancelled = true;
      cancel();
    };
  }
}

const sizeOf = (headers: IncomingHttpHeaders): number =>
  Object.entries(headers).reduce((sum, [name, value]) => sum + name.length + String(value).length, 0);

const interrupted = (server: string, error: unknown): string => `the connection to ${server} was interrupted: ${messageOf(error)}`;

interface SocketParts {
  readonly tls: TlsMaterial | undefined;
  readonly onResolved: (addresses: readonly string[]) => void;
}

/** The same socket that node:http2 would create. It is created here because node:http2 does not report the steps of connecting. */
function socketTo(url: URL, { tls, onResolved }: SocketParts): Socket {
  const host = hostOf(url);
  const resolve: LookupFunction = (name, options, done) =>
    lookup(name, options, (error, found: string | LookupAddress[], family?: number) => {
      if (error === null) onResolved(typeof found === 'string' ? [found] : found.map(({ address }) => address));
      done(error, found, family);
    });
  const at = { host, port: portOf(url), lookup: resolve };
  if (tls === undefined) return connectTcp(at);
  return connectTls({ ...at, ALPNProtocols: ['h2'], ...(isIP(host) === 0 ? { servername: host } : {}), ...tls });
}

async function* bodyOf(stream: ClientHttp2Stream, server: string, makeError: MakeError): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw makeError(interrupted(server, error), error);
  } finally {
    if (!stream.readableEnded && !stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  }
  // If the connection is lost without an error, the loop ends in the same way as after a complete response, so this must be checked.
  if (!stream.readableEnded) throw makeError(`the connection to ${server} was interrupted`);
}

/**
 * The result of `call`. If `call` throws, for example because the connection has ended since #open() returned, throws the error
 * that makeError returns.
 */
function orError<T>(call: () => T, makeError: (cause: unknown) => unknown): T {
  try {
    return call();
  } catch (error) {
    throw makeError(error);
  }
}

/** The message of the error. For a name with several addresses, Node throws an AggregateError with one error per address. */
const connectReason = (error: unknown): string =>
  error instanceof AggregateError ? error.errors.map(messageOf).join(', ') : messageOf(error);

/** The outcome of the promise, or the signal's reason if the signal is aborted first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
