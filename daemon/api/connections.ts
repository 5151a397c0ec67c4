// SPDX-License-Identifier: Apache-2.0
// Manages the connections of the gRPC API and the calls on them. Limits the number of connections, the time of a call, and the bytes of
// responses that the clients have not read yet. A client that does not read a response loses its connection. This file must never inspect a
// request. Created by grpc.ts.
import {
  type ConnectionInjector,
  experimental,
  type Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  status as code,
} from '@grpc/grpc-js';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import {
  callMs,
  closingMs,
  idleConnectionMs,
  maxConnections,
  smallResponseBytes,
  unreadBytes,
  unreadBytesPerConnection,
} from './limits.ts';

type CallListener = Parameters<ServerInterceptingCallInterface['start']>[0];

/** Limits of a Connections object. Tests pass smaller ones. */
export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly idleConnectionMs: number;
  readonly callMs: number;
}

/** Interval in milliseconds at which the running calls are checked while the server stops. */
const pollMs = 10;
/** Time in milliseconds that streams have to send their last messages when the server stops. */
const lastBytesMs = 50;

const defaultLimits: ConnectionLimits = { maxConnections, idleConnectionMs, callMs };

export class Connections {
  readonly #server: Server;
  readonly #limits: ConnectionLimits;
  readonly #open = new Set<Connection>();
  readonly #unread = { bytes: 0 };

  constructor(server: Server, limits: Partial<ConnectionLimits> = {}) {
    this.#server = server;
    this.#limits = { ...defaultLimits, ...limits };
  }

  /** Serves a new connection. If there are too many, closes the one that has been idle longest, or the oldest if none is idle. */
  add(socket: Socket): void {
    if (this.#open.size >= this.#limits.maxConnections) {
      const [oldest] = [...this.#open].toSorted((a, b) => Number(a.isBusy) - Number(b.isBusy) || a.since - b.since);
      oldest?.destroy();
    }
    const connection = new Connection({ server: this.#server, limits: this.#limits, socket, unread: this.#unread });
    this.#open.add(connection);
    connection.onClose = () => this.#open.delete(connection);
  }

  /**
   * Closes every connection. First waits up to `ms` milliseconds for calls that are not streams, then lastBytesMs for the last bytes to be
   * sent.
   */
  async close(ms: number): Promise<void> {
    const until = performance.now() + ms;
    while ([...this.#open].some(({ hasRequest }) => hasRequest) && performance.now() < until) await sleep(pollMs);
    if (this.#open.size === 0) return;
    for (const connection of this.#open) connection.drain();
    await sleep(lastBytesMs);
    for (const connection of [...this.#open]) connection.destroy();
  }
}

interface ConnectionOptions {
  readonly server: Server;
  readonly limits: ConnectionLimits;
  readonly socket: Socket;
  /** Bytes of unread responses on all connections. */
  readonly unread: { bytes: number };
}

class Connection {
  readonly #options: ConnectionOptions;
  readonly #injector: ConnectionInjector;
  onClose: () => void = () => undefined;
  /** Time at which the last call ended, or at which the connection was made. */
  since = performance.now();
  #calls = 0;
  /** Number of calls on this connection that are not streams. */
  #requests = 0;
  #unread = 0;
  #isClosed = false;
  #idle: NodeJS.Timeout | undefined;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { server, limits, socket } = options;
    const credentials = experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [
      ({ requestStream, responseStream }, call) =>
        new TrackedCall(call, { connection: this, limits, isStream: requestStream || responseStream }),
    ]);
    // Each connection has an injector of its own, because an interceptor cannot find out which connection its call is on.
    this.#injector = server.createConnectionInjector(credentials);
    socket.once('close', () => this.#close());
    this.#injector.injectConnection(socket);
    this.#startIdle();
  }

  get isBusy(): boolean {
    return this.#calls > 0;
  }

  get hasRequest(): boolean {
    return this.#requests > 0;
  }

  callBegins(isStream: boolean): void {
    this.#calls += 1;
    if (!isStream) this.#requests += 1;
    clearTimeout(this.#idle);
  }

  callEnds(isStream: boolean): void {
    this.#calls -= 1;
    if (!isStream) this.#requests -= 1;
    if (this.#calls === 0) this.#startIdle();
  }

  /**
   * Reserves bytes for a response. If a limit would be exceeded, reserves nothing and returns the reason why the response must not be sent
   * now.
   */
  reserve(bytes: number): string | undefined {
    const { unread } = this.#options;
    if (bytes > unreadBytesPerConnection) return `the response has ${bytes} bytes, and at most ${unreadBytesPerConnection} are sent`;
    if (this.#unread + bytes > unreadBytesPerConnection) {
      return `this connection has ${this.#unread} bytes of responses that the client has not read, and at most ${unreadBytesPerConnection} are kept: try again later`;
    }
    if (unread.bytes + bytes > unreadBytes) {
      return `the clients have not read ${unread.bytes} bytes of responses, and at most ${unreadBytes} are kept: try again later`;
    }
    this.#unread += bytes;
    unread.bytes += bytes;
    return undefined;
  }

  release(bytes: number): void {
    // #close() has already released all bytes of this connection.
    if (this.#isClosed) return;
    this.#unread -= bytes;
    this.#options.unread.bytes -= bytes;
  }

  /** Asks the client to use another connection, and closes this one when its calls have ended. */
  drain(): void {
    this.#injector.drain(closingMs);
  }

  destroy(): void {
    this.#options.socket.destroy();
    this.#close();
  }

  #startIdle(): void {
    if (this.#isClosed) return;
    this.since = performance.now();
    this.#idle = setTimeout(() => {
      this.drain();
      setTimeout(() => this.destroy(), closingMs).unref();
    }, this.#options.limits.idleConnectionMs).unref();
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#idle);
    this.#options.unread.bytes -= this.#unread;
    this.#injector.destroy();
    this.onClose();
  }
}

interface TrackedCallOptions {
  readonly connection: Connection;
  readonly limits: ConnectionLimits;
  /** True if the client or the server may send several messages. The time of such a call is not limited. */
  readonly isStream: boolean;
}

/**
 * One call with its limits: the time until the response is sent, the time in which the client must read a response, and the bytes that the
 * client has not read yet. Only responses that are Buffers count as unread bytes; see grpc.ts.
 */
class TrackedCall extends ServerInterceptingCall {
  readonly #connection: Connection;
  readonly #limits: ConnectionLimits;
  readonly #isStream: boolean;
  readonly #timer: NodeJS.Timeout | undefined;
  /** Bytes that are reserved for the response. */
  #reserved = 0;
  /** Timer that runs while a message waits for the client to read it. */
  #writing: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(call: ServerInterceptingCallInterface, { connection, limits, isStream }: TrackedCallOptions) {
    super(call);
    this.#connection = connection;
    this.#limits = limits;
    this.#isStream = isStream;
    if (!isStream) this.#timer = setTimeout(() => this.#expire(), limits.callMs).unref();
    connection.callBegins(isStream);
  }

  override start(listener: CallListener): void {
    super.start({
      onReceiveMetadata: (metadata) => listener.onReceiveMetadata(metadata),
      onReceiveMessage: (message) => listener.onReceiveMessage(message),
      onReceiveHalfClose: () => listener.onReceiveHalfClose(),
      // Called once: after the trailers of the response, or when the client leaves, or when its deadline passes.
      onCancel: () => {
        // After the deadline, a call whose message is still being written does not end here, because the memory of the message is still in
        // use.
        const isStillWriting = this.#writing !== undefined && Date.now() >= Number(this.getDeadline());
        if (!isStillWriting) this.#end();
        listener.onCancel();
      },
    });
  }

  override sendMessage(message: unknown, callback: () => void): void {
    const bytes = Buffer.isBuffer(message) && message.length > smallResponseBytes ? message.length : 0;
    const obstacle = bytes === 0 ? undefined : this.#connection.reserve(bytes);
    if (obstacle !== undefined) {
      super.sendStatus({ code: code.RESOURCE_EXHAUSTED, details: obstacle });
      return;
    }
    this.#reserved += bytes;
    this.#writing = setTimeout(() => this.#connection.destroy(), this.#limits.callMs).unref();
    super.sendMessage(message, () => {
      clearTimeout(this.#writing);
      this.#writing = undefined;
      this.#connection.release(this.#reserved);
      this.#reserved = 0;
      callback();
    });
  }

  #expire(): void {
    if (this.#writing !== undefined) return;
    super.sendStatus({ code: code.DEADLINE_EXCEEDED, details: `the call did not end within ${this.#limits.callMs / 1000} s` });
  }

  #end(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#writing);
    this.#connection.release(this.#reserved);
    this.#reserved = 0;
    this.#connection.callEnds(this.#isStream);
  }
}
