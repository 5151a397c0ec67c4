// SPDX-License-Identifier: Apache-2.0
// One HTTP listener that answers every request with a computed response. It uses node:http and not fastify: there is one port
// per Service, without routes, schemas or request bodies, and the headers must be exactly those of kube-proxy. Called by
// listeners.ts, which decides which ports are open.
import { createServer, type IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HealthResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Computes the response from the path of a request, without the query. The HTTP method does not matter. */
export type Responder = (path: string) => HealthResponse;

export interface Listener {
  /** The actual port, also if port 0 was requested. */
  readonly port: number;
  /** Closes open connections. Resolves when the port is free again. */
  close(): Promise<void>;
}

/** Headers of every health response of kube-proxy. */
export const healthHeaders = { 'Content-Type': 'application/json', 'X-Content-Type-Options': 'nosniff' } as const;

/** Probes are short. A client that takes longer would only occupy a file descriptor. */
const timeouts = { requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 10_000, connectionsCheckingInterval: 5000 };
const connectionLimit = 1024;

/**
 * Listens on one address, or on all addresses of both families if the address is undefined. In the second case node:net binds "::"
 * for both families, or 0.0.0.0 if the kernel has no IPv6. The addresses "0.0.0.0" and "::" mean all addresses of one family.
 */
export function openListener(at: { readonly address: string | undefined; readonly port: number }, respond: Responder): Promise<Listener> {
  const server = createServer(timeouts);
  server.maxConnections = connectionLimit;
  server.on('request', (request, response) => send(request, response, respond));
  // CONNECT gets the same response as other methods. By default, node:http closes the connection.
  server.on('connect', (request, socket) => {
    const response = new ServerResponse(request);
    response.assignSocket(socket as IncomingMessage['socket']);
    socket.on('error', () => socket.destroy());
    response.on('finish', () => socket.end());
    send(request, response, respond);
  });
  const { promise, resolve, reject } = Promise.withResolvers<Listener>();
  // The handler stays after the start: if accept() fails because file descriptors are exhausted, the port stays open and the
  // client retries.
  server.on('error', reject);
  const where = at.address === undefined ? { port: at.port } : { host: at.address, port: at.port, ipv6Only: at.address.includes(':') };
  server.listen(where, () => {
    const { port } = server.address() as AddressInfo;
    resolve({
      port,
      close: () =>
        new Promise((done) => {
          server.close(() => done());
          server.closeAllConnections();
        }),
    });
  });
  return promise;
}

function send(request: IncomingMessage, response: ServerResponse, respond: Responder): void {
  const { status, headers, body } = respond((request.url ?? '/').split('?')[0] ?? '/');
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
