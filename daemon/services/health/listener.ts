// SPDX-License-Identifier: Apache-2.0
// One HTTP listener that answers every request with a computed response. It uses node:http and not fastify: there is one port
// per Service, without routes, schemas or request bodies, and the headers must be exactly those of kube-proxy. Its connections are
// limited by base/http-servers.ts. Called by listeners.ts, which decides which ports are open.
import { type IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type HttpServers, LISTEN_BACKLOG } from '../../base/http-servers.ts';

export interface HealthResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Buffer;
}

/**
 * Computes the response from the path of a request, without the query. The HTTP method does not matter. A failure is answered with
 * status 500, without details.
 */
export type Responder = (path: string) => HealthResponse | Promise<HealthResponse>;

export interface Listener {
  /** The actual port, also if port 0 was requested. */
  readonly port: number;
  /** Closes open connections. Resolves when the port is free again. */
  close(): Promise<void>;
}

/** Headers of every health response of kube-proxy. */
export const healthHeaders = { 'Content-Type': 'application/json', 'X-Content-Type-Options': 'nosniff' } as const;

export interface ListenerOptions {
  readonly servers: Pick<HttpServers, 'create'>;
  readonly at: { readonly address: string | undefined; readonly port: number };
  readonly respond: Responder;
}

/**
 * Listens on one address, or on all addresses of both families if the address is undefined. In the second case node:net binds "::"
 * for both families, or 0.0.0.0 if the kernel has no IPv6. The addresses "0.0.0.0" and "::" mean all addresses of one family.
 */
export function openListener({ servers, at, respond }: ListenerOptions): Promise<Listener> {
  const server = servers.create((request, response) => void send(request, response, respond));
  // CONNECT gets the same response as other methods. By default, node:http closes the connection.
  server.on('connect', (request, socket) => {
    const response = new ServerResponse(request);
    response.assignSocket(socket as IncomingMessage['socket']);
    socket.on('error', () => socket.destroy());
    response.on('finish', () => socket.end());
    void send(request, response, respond);
  });
  const { promise, resolve, reject } = Promise.withResolvers<Listener>();
  server.once('error', reject);
  const where = at.address === undefined ? { port: at.port } : { host: at.address, port: at.port, ipv6Only: at.address.includes(':') };
  server.listen({ ...where, backlog: LISTEN_BACKLOG }, () => {
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

async function send(request: IncomingMessage, response: ServerResponse, respond: Responder): Promise<void> {
  const { status, headers, body } = await responseOf((request.url ?? '/').split('?')[0] ?? '/', respond);
  // Nothing to answer: the client has disconnected.
  if (response.destroyed) return;
  response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

async function responseOf(path: string, respond: Responder): Promise<HealthResponse> {
  try {
    return await respond(path);
  } catch {
    return problemResponse(500, 'the call failed unexpectedly; the log of the agent contains the error');
  }
}

/** A response with an error in the form of RFC 9457. */
export function problemResponse(status: number, detail: string): HealthResponse {
  const problem = { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail };
  return { status, headers: { ...healthHeaders, 'Content-Type': 'application/problem+json' }, body: JSON.stringify(problem) };
}
