// SPDX-License-Identifier: Apache-2.0
// One HTTP/2 connection to the API server, shared by every list and watch, opened when it is asked for. A peer that says
// nothing is noticed by pings, whatever the streams do; a server that did not answer gives way to the next. It never
// retries: reflector.ts does.
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants, type IncomingHttpHeaders } from 'node:http2';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { ClusterAccess, TlsMaterial } from './access.ts';
import { type ApiClient, type ApiResponse, CredentialError, Unreachable } from './api-client.ts';

/** For the name of the server: a resolver tries the next name server after five seconds. */
const LOOKUP_MS = 12_000;
/** For TCP: a server that is there answers, and one that was away is to be noticed soon. */
const CONNECT_MS = 2000;
/** For TLS and HTTP/2: twice as long after each time that it was not enough, for a server to which all nodes come at once. */
const HANDSHAKE_LIMITS = { firstMs: 2000, mostMs: 8000 };
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
  /** Before every path: an API server behind a proxy may not have all of the address. */
  readonly prefix: string;
  /** What comes next goes to another connection, to the same server; this one ends with the last that runs on it. Idempotent. */
  readonly renew: () => void;
  /** The same, to the next server. */
  readonly leave: () => void;
}

type Failed = (why: string, cause?: unknown) => unknown;

export class Connection implements ApiClient {
  readonly #options: ConnectionOptions;
  /** Aborted by close(). */
  readonly #life = new AbortController();
  /** Handshakes in a row that took too long. */
  #handshakeTimeouts = 0;
  #opening: Promise<Open> | undefined;
  /** Index of the server that is asked next. */
  #at = 0;

  constructor(options: ConnectionOptions) {
    this.#options = options;
  }

  async get(path: string, signal: AbortSignal): Promise<ApiResponse> {
    signal.throwIfAborted();
    const { access, userAgent } = this.#options;
    const authorization = await orAborted(access.authorization(), signal);
    signal.throwIfAborted();
    const open = await orAborted(this.#opened(), signal);
    const { session, server, prefix } = open;
    const headers = { ':path': prefix + path, accept: 'application/json', 'user-agent': userAgent };
    const failed: Failed = (why, cause) => (signal.aborted ? signal.reason : new Unreachable(`${server} ${why}`, { cause }));
    const stream = requested(
      () => session.request(authorization === undefined ? headers : { ...headers, authorization }, { signal }),
      failed,
    );
    const answer = await this.#answer(stream, open, failed);
    const status = Number(answer[':status']);
    if (status === 401) {
      access.forget(authorization);
      // A client certificate is the connection's: another one needs another.
      open.renew();
    }
    // Such as one that is cut off from its etcd; if there is no other, it may get well.
    if (status >= 500 && access.servers.length > 1) open.leave();
    const retryAfter = Number(answer['retry-after']);
    return { status, ...(retryAfter >= 0 ? { retryAfter } : {}), body: bodyOf(stream, failed) };
  }

  /** Ends every stream, for good. */
  close(): void {
    this.#life.abort(new Unreachable('the connection was closed'));
    this.#options.access.close();
  }

  #answer(stream: ClientHttp2Stream, open: Open, failed: Failed): Promise<IncomingHttpHeaders> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingHttpHeaders>();
    const cancel = this.#after(ANSWER_MS, () => {
      reject(failed(`has not answered for ${ANSWER_MS / 1000} s`));
      stream.close(constants.NGHTTP2_CANCEL);
      // It may answer pings and nothing else.
      open.leave();
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

  async #open(onEnded: () => void): Promise<Open> {
    const { servers } = this.#options.access;
    const at = this.#at % servers.length;
    const url = servers[at];
    if (url === undefined) throw new Error('access names no server');
    const next = (): void => {
      onEnded();
      if (this.#at === at) this.#at = (at + 1) % servers.length;
    };
    try {
      const { session, socket } = await this.#connect(url, onEnded);
      this.#watchOver(session, { socket, server: url.origin, onDead: next });
      const renew = (): void => {
        onEnded();
        session.close();
      };
      const leave = (): void => {
        next();
        session.close();
      };
      return { session, server: url.origin, prefix: url.pathname.replace(/\/+$/, ''), renew, leave };
    } catch (error) {
      next();
      throw error;
    }
  }

  /** `onEnded`: nobody may begin anything on it any more. */
  async #connect(url: URL, onEnded: () => void): Promise<{ session: ClientHttp2Session; socket: Socket }> {
    const life = this.#life.signal;
    life.throwIfAborted();
    const tls = url.protocol === 'https:' ? await this.#options.access.tls() : undefined;
    life.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const failed: Failed = (why, cause) => new Unreachable(`${url.origin} ${why}`, { cause });
    const socket = requested(
      () => socketTo(url, tls),
      (_, cause) => new CredentialError(`${this.#options.access.shown} cannot be used: ${messageOf(cause)}`, { cause }),
    );
    const session = connect(url, { createConnection: () => socket, settings: { enablePush: false, initialWindowSize: WINDOW } });
    const destroy = (): void => session.destroy();
    life.addEventListener('abort', destroy);
    const cancel = this.#limitSteps(socket, (why) => session.destroy(new Error(why)));
    session.on('error', (error) => reject(failed(`cannot be reached: ${reasonOf(error)}`, error)));
    session.once('close', () => {
      life.removeEventListener('abort', destroy);
      reject(failed('closed the connection'));
      onEnded();
    });
    // The server is about to go: what runs may end, what comes next goes to another connection.
    session.once('goaway', onEnded);
    session.once('remoteSettings', () => {
      session.setLocalWindowSize(WINDOW);
      this.#handshakeTimeouts = 0;
      resolve();
    });
    return promise.then(() => ({ session, socket })).finally(cancel);
  }

  /** Each step of connecting has its own time: the name, TCP, and the rest. Returns the call that ends the last limit. */
  #limitSteps(socket: Socket, giveUp: (why: string) => void): () => void {
    let cancel = (): void => undefined;
    const timeouts = this.#handshakeTimeouts;
    const limit = (ms: number, what: string): void => {
      cancel();
      cancel = this.#after(ms, () => {
        if (what === handshake) this.#handshakeTimeouts = timeouts + 1;
        giveUp(`no ${what} within ${ms / 1000} s`);
      });
    };
    const handshake = 'answer to the handshake';
    limit(LOOKUP_MS, 'address for its name');
    // Said of an address as well, at once.
    socket.once('connectionAttempt', () => limit(CONNECT_MS, 'connection'));
    socket.once('connect', () => limit(doubledMs(timeouts + 1, HANDSHAKE_LIMITS), handshake));
    return () => cancel();
  }

  /** Pings as long as it lives. */
  #watchOver(session: ClientHttp2Session, { socket, server, onDead }: { socket: Socket; server: string; onDead: () => void }): void {
    let cancel = (): void => undefined;
    const ping = (): void => {
      if (session.destroyed) {
        // It has ended well, and waits for the peer to end it too.
        socket.destroy();
        return;
      }
      cancel = this.#after(PONG_MS, () => {
        onDead();
        session.destroy(new Error(`${server} has not answered a ping for ${PONG_MS / 1000} s`));
        socket.destroy();
      });
      session.ping(() => {
        cancel();
        cancel = this.#after(PING_EVERY_MS, ping);
      });
    };
    cancel = this.#after(PING_EVERY_MS, ping);
    session.once('close', () => cancel());
  }

  /** Not before what has arrived by then is read: it may be us who were busy. */
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

/** As node:http2 would make it: by itself it does not say how far it has come. */
function socketTo(url: URL, tls: TlsMaterial | undefined): Socket {
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const at = { host, port: Number(url.port) || (tls === undefined ? 80 : 443) };
  if (tls === undefined) return connectTcp(at);
  return connectTls({ ...at, ALPNProtocols: ['h2'], ...(isIP(host) === 0 ? { servername: host } : {}), ...tls });
}

async function* bodyOf(stream: ClientHttp2Stream, failed: Failed): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield chunk as Uint8Array;
  } catch (error) {
    throw failed(`cut the connection: ${messageOf(error)}`, error);
  } finally {
    if (!stream.readableEnded && !stream.closed) stream.close(constants.NGHTTP2_CANCEL);
  }
  // When the connection goes without an error, the loop ends as if everything had been said.
  if (!stream.readableEnded) throw failed('cut the connection');
}

/** What throws at once fails like what fails later: the connection may have ended since it was asked for. */
function requested<T>(request: () => T, failed: Failed): T {
  try {
    return request();
  } catch (error) {
    throw failed(`cannot be asked: ${messageOf(error)}`, error);
  }
}

/** Of a name with several addresses Node tries each, and says nothing but what became of each. */
const reasonOf = (error: unknown): string => (error instanceof AggregateError ? error.errors.map(messageOf).join(', ') : messageOf(error));

/** The promise's outcome, or the signal's reason if that comes first. */
function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason as Error);
  signal.addEventListener('abort', onAbort, { once: true });
  return Promise.race([promise, aborted]).finally(() => signal.removeEventListener('abort', onAbort));
}
