// SPDX-License-Identifier: Apache-2.0
// The HTTP server with probes and metrics. buildHttp() creates the routes without listening, so that tests can inject requests;
// listenHttp() binds the address. Every error is an RFC 9457 problem document without internal details. A request must never cause
// an expensive computation: the caller limits how often metrics are computed. Called by agent.ts.
import fastify, { type ConnectionError, type FastifyInstance, type FastifyReply, type FastifyServerFactory } from 'fastify';
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';

import { ExitCode, ExitError } from '../base/errors.ts';
import { systemReason } from '../base/reasons.ts';
import { cached } from '../base/cached.ts';
import type { Clock } from '../base/clock.ts';
import { type HttpServers, LISTEN_BACKLOG } from '../base/http-servers.ts';
import type { MetricsPage } from '../base/metrics.ts';
import type { AgentView } from '../status/view.ts';

/** Detail of the response to a request that the HTTP server rejects before it reaches a route. */
const rejected = 'the request is not valid: use GET /healthz, /readyz or /metrics without a body';

interface HttpOptions {
  readonly view: AgentView;
  /** The metrics; see metricsPage(). */
  readonly page: () => Promise<MetricsPage>;
  readonly servers: Pick<HttpServers, 'create'>;
  readonly clock: Pick<Clock, 'now'>;
  readonly log?: Logger | undefined;
}

/** Time in milliseconds for which the computed readiness is reused, because computing the reasons may take long. */
const READY_MS = 250;

/** Maximum size of a request body in bytes. No route reads the body. */
const BODY_BYTES = 1024;

const failed = 'the call failed unexpectedly; the log of the agent contains the error';

/** GET /healthz: 200 while the process responds. GET /readyz: 200, or 503 with the reasons. GET /metrics: Prometheus text. */
export function buildHttp({ view, page, servers, clock, log }: HttpOptions): FastifyInstance {
  const health = cached(() => view.health(), { ms: READY_MS, clock });
  const http = fastify({
    logger: false,
    bodyLimit: BODY_BYTES,
    serverFactory: ((handler) => servers.create(handler)) satisfies FastifyServerFactory,
    // Keep-alive connections of scrapers must not delay close().
    forceCloseConnections: true,
    clientErrorHandler: rejectConnection,
    frameworkErrors: (err, _request, reply) => void sendProblem(reply, err.statusCode ?? 400, rejected),
  });
  // fastify handles errors of the server only during the start. Later errors are about a connection that could not be accepted; the server
  // continues.
  http.server.on('error', (err) => log?.debug({ err }, 'HTTP connection not accepted'));
  http.get('/healthz', (_request, reply) => reply.send({ status: 'ok' }));
  http.get('/readyz', (_request, reply) => {
    const { ready, reasons } = health();
    return reply.code(ready ? 200 : 503).send({ ready, reasons });
  });
  http.get('/metrics', async (_request, reply) => {
    const answer = await page().catch(() => undefined);
    // metricsPage() has logged the failure, once for all requests that share the page.
    if (answer === undefined) return sendProblem(reply, 500, failed);
    return reply.type(answer.contentType).send(answer.body);
  });
  http.setNotFoundHandler((request, reply) => {
    void sendProblem(reply, 404, `${request.method} ${request.url} does not exist: use GET /healthz, /readyz or /metrics`);
  });
  http.setErrorHandler((err: Error & { statusCode?: number }, request, reply) => {
    const status = err.statusCode !== undefined && err.statusCode >= 400 && err.statusCode < 500 ? err.statusCode : 500;
    if (status === 500) log?.error({ err, url: request.url }, 'HTTP request failed');
    void sendProblem(reply, status, status === 500 ? failed : rejected);
  });
  return http;
}

/** Answers bytes that are no HTTP request. fastify would answer with a document of its own form. */
function rejectConnection(error: ConnectionError, socket: Socket): void {
  if (socket.destroyed || !socket.writable) return void socket.destroy();
  const status = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  const title = STATUS_CODES[status] ?? 'Error';
  const body = JSON.stringify({ type: 'about:blank', title, status, detail: rejected });
  const headers = `Connection: close\r\nContent-Type: application/problem+json\r\nContent-Length: ${Buffer.byteLength(body)}`;
  socket.end(`HTTP/1.1 ${status} ${title}\r\n${headers}\r\n\r\n${body}`);
}

function sendProblem(reply: FastifyReply, status: number, detail: string): FastifyReply {
  const problem = { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail };
  return reply.code(status).type('application/problem+json').send(problem);
}

/** Binds the address and returns the port; for port 0, the kernel chooses one. Throws ExitError when the address is not available. */
export async function listenHttp(http: FastifyInstance, at: { readonly address: string; readonly port: number }): Promise<number> {
  try {
    await http.listen({ host: at.address, port: at.port, backlog: LISTEN_BACKLOG });
  } catch (error) {
    const where = `${at.address}:${at.port}`;
    throw new ExitError(
      ExitCode.failure,
      `cannot serve HTTP on ${where}: ${systemReason(error)}: set another address with --http ADDR:PORT, or --http off`,
      {
        cause: error,
      },
    );
  }
  const bound = http.server.address();
  return bound !== null && typeof bound === 'object' ? bound.port : at.port;
}
