// SPDX-License-Identifier: Apache-2.0
// One HTTP port whose every request gets a computed answer: what the health servers listen with. node:http and not
// fastify: there is one port per Service, with no routes, schemas or bodies, and the headers are kube-proxy's to the letter.
// Called by listeners.ts, which decides what is open.
import { createServer, type IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HealthResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** The answer to a path, the query cut off; whatever the method. */
export type Answerer = (path: string) => HealthResponse;

export interface Listener {
  /** For those who asked for 0. */
  readonly port: number;
  /** Resolves when the port is free again; open connections are cut. */
  close(): Promise<void>;
}

/** Headers that all of kube-proxy's health answers have. */
export const healthHeaders = { 'Content-Type': 'application/json', 'X-Content-Type-Options': 'nosniff' } as const;

/** A prober sends a line and gets a few: whoever takes longer only holds a descriptor. */
const timeouts = { requestTimeout: 10_000, headersTimeout: 10_000, keepAliveTimeout: 10_000, connectionsCheckingInterval: 5000 };
const mostConnections = 1024;

/**
 * Listens on one address, or on all addresses of both families when there is none: on "::" for IPv4 too, on 0.0.0.0 where
 * the kernel has no IPv6 (that is what node:net does without a host). "0.0.0.0" and "::" as addresses mean one family.
 */
export function openListener(at: { readonly address: string | undefined; readonly port: number }, answer: Answerer): Promise<Listener> {
  const server = createServer(timeouts);
  server.maxConnections = mostConnections;
  server.on('request', (request, response) => send(request, response, answer));
  // CONNECT is a method like any other here; node:http would cut the connection.
  server.on('connect', (request, socket) => {
    const response = new ServerResponse(request);
    response.assignSocket(socket as IncomingMessage['socket']);
    socket.on('error', () => socket.destroy());
    response.on('finish', () => socket.end());
    send(request, response, answer);
  });
  const { promise, resolve, reject } = Promise.withResolvers<Listener>();
  // Stays after the start: when accept() fails for want of descriptors the port is still open, and the prober asks again.
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

function send(request: IncomingMessage, response: ServerResponse, answer: Answerer): void {
  const { status, headers, body } = answer((request.url ?? '/').split('?')[0] ?? '/');
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}
