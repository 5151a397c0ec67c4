// SPDX-License-Identifier: Apache-2.0
// Makes the HTTP servers of the process. All servers share one limit of connections and take turns, so that a client of one port cannot
// exhaust the descriptors, the memory or the time that the other ports need. It must never refuse a connection; it closes the least
// recently used idle connection instead. The caller of create() provides the request handler. A handler that takes long must yield to the
// event loop by itself.
import { createServer, type RequestListener, type Server } from 'node:http';
import { createServer as createNetServer, type Server as NetServer, type Socket } from 'node:net';
import { type ConnectionLimits, ConnectionShares, sourceOf } from './connection-shares.ts';
import { SlicedSocket, SliceQueue } from './sliced-socket.ts';

/**
 * Each connection holds a descriptor and up to 64 KiB of received data, and has at most 10 requests without a response. The limit per
 * source is large enough for probes: the connection of a probe is closed only if the same source opens 64 newer connections before the
 * probe sends its request.
 */
const defaultLimits: ConnectionLimits = { total: 512, perSource: 64 };

/** Time limits in milliseconds. Probes and scrapes are short; a client that takes longer only occupies a connection. */
const timeouts = {
  /** Time from the accepted connection, or from the first byte of a later request, to the end of the headers. */
  headersTimeout: 10_000,
  /** Time from the same moment as for headersTimeout to the end of the body. */
  requestTimeout: 10_000,
  /** Time from a response to the next request. */
  keepAliveTimeout: 10_000,
  /** Interval at which the time limits for the headers and for the request are checked. */
  connectionsCheckingInterval: 2000,
};

/**
 * Time in milliseconds without a byte in either direction after which a connection is closed, for example when the client does not read.
 */
const STALL_MS = 10_000;

/** Connections that the kernel holds for a port before they are accepted. It limits them to net.core.somaxconn, by default the same. */
export const LISTEN_BACKLOG = 4096;

/** Seconds for which the kernel holds a connection without a byte. A client sends its request at once. Then the time-outs above apply. */
const DEFER_SECONDS = 3;

/**
 * The event loop accepts one connection per descriptor in each round, and a probe waits for all that came before it. With further
 * descriptors of its socket, a port accepts this number per round, which takes 2 ms.
 */
const ACCEPTS_PER_ROUND = 16;
/** Further descriptors of all ports together. The ports of the agent are opened before those of Services. */
const MOST_DESCRIPTORS = 48;

/** What only system calls can do for a listening socket. kernel/ has the functions. */
export interface ListenCalls {
  /** Asks the kernel to hold connections until their first bytes arrive. */
  readonly deferAccept: (fd: number, seconds: number) => void;
  /** Another descriptor of the same socket. */
  readonly duplicate: (fd: number) => number;
}

/** Maximum size in bytes of the request line and the headers together. */
const HEADER_BYTES = 8192;
const HEADER_COUNT = 64;

export class HttpServers {
  readonly #shares: ConnectionShares<SlicedSocket>;
  readonly #queue = new SliceQueue();
  readonly #calls: ListenCalls | undefined;
  #descriptors = 0;

  /** Without `calls`, a port under abuse accepts a probe later. */
  constructor({ limits = defaultLimits, calls }: { readonly limits?: ConnectionLimits; readonly calls?: ListenCalls } = {}) {
    this.#shares = new ConnectionShares(limits);
    this.#calls = calls;
  }

  /** Open connections of all servers, and connections that were closed to make room for others. For the metrics. */
  get connections(): { readonly open: number; readonly closed: number } {
    return { open: this.#shares.size, closed: this.#shares.closed };
  }

  /** Makes a server that does not listen yet. */
  create(onRequest: RequestListener): Server {
    const server = createServer({ ...timeouts, maxHeaderSize: HEADER_BYTES });
    server.maxHeadersCount = HEADER_COUNT;
    server.timeout = STALL_MS;
    // accept() fails when descriptors are exhausted. The port stays open, and the client tries again.
    server.on('error', () => undefined);
    server.on('listening', () => this.#prepare(server));
    // node:http serves any stream that its listeners of the event "connection" receive, so they can receive a SlicedSocket.
    const serve = server.listeners('connection') as unknown as ((connection: SlicedSocket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => {
      const source = sourceOf(socket.remoteAddress);
      const connection = new SlicedSocket(socket, { queue: this.#queue, source });
      this.#shares.add(connection, source);
      connection.once('close', () => this.#shares.remove(connection));
      for (const each of serve) each.call(server, connection);
    });
    server.on('request', (request, response) => {
      const connection = request.socket as unknown as SlicedSocket;
      connection.began(request);
      this.#shares.used(connection, true);
      response.once('close', () => {
        connection.ended(request);
        if (!connection.isBusy) this.#shares.used(connection, false);
      });
    });
    server.on('request', onRequest);
    return server;
  }

  /** What the kernel refuses here costs time under abuse, and nothing else. */
  #prepare(server: Server): void {
    const { fd } = (server as unknown as { readonly _handle: { readonly fd: number } | null })._handle ?? {};
    if (fd === undefined || this.#calls === undefined) return;
    const acceptors: NetServer[] = [];
    const close = server.close.bind(server);
    server.close = (callback) => {
      for (const each of acceptors.splice(0)) each.close(() => (this.#descriptors -= 1));
      return close(callback);
    };
    try {
      this.#calls.deferAccept(fd, DEFER_SECONDS);
      while (acceptors.length + 1 < ACCEPTS_PER_ROUND && this.#descriptors < MOST_DESCRIPTORS) {
        const acceptor = createNetServer((socket) => server.emit('connection', socket));
        acceptor.on('error', () => undefined);
        // The second argument: with a descriptor, the option of this name has no effect.
        acceptor.listen({ fd: this.#calls.duplicate(fd) }, LISTEN_BACKLOG);
        acceptors.push(acceptor);
        this.#descriptors += 1;
      }
    } catch {
      return;
    }
  }
}
