// SPDX-License-Identifier: Apache-2.0
// The HTTP server with probes and metrics. buildHttp() creates the routes without listening, so that tests can inject requests;
// listenHttp() binds the address. Every error is an RFC 9457 problem document without internal details. Called by agent.ts.
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { STATUS_CODES } from 'node:http';
import type { Logger } from 'pino';

import { ExitCode, ExitError } from '../base/errors.ts';
import { systemReason } from '../base/reasons.ts';
import type { Metrics } from './metrics.ts';
import type { AgentView } from '../status/view.ts';

/** Detail of the response to a request that the HTTP server rejects before it reaches a route. */
const rejected = 'the request is not valid: use GET /healthz, /readyz or /metrics without a body';

interface HttpOptions {
  readonly view: AgentView;
  readonly metrics: Metrics;
  readonly log?: Logger | undefined;
}

/** GET /healthz: 200 while the process responds. GET /readyz: 200, or 503 with the reasons. GET /metrics: Prometheus text. */
export function buildHttp({ view, metrics, log }: HttpOptions): FastifyInstance {
  // Keep-alive connections of scrapers must not delay close().
  const http = fastify({
    logger: false,
    forceCloseConnections: true,
    frameworkErrors: (err, _request, reply) => sendProblem(reply, err.statusCode ?? 400, rejected),
  });
  http.get('/healthz', (_request, reply) => reply.send({ status: 'ok' }));
  http.get('/readyz', (_request, reply) => {
    const { ready, reasons } = view.health();
    return reply.code(ready ? 200 : 503).send({ ready, reasons });
  });
  http.get('/metrics', async (_request, reply) => {
    const text = await metrics.scrape();
    return reply.type(metrics.contentType).send(text);
  });
  http.setNotFoundHandler((request, reply) => {
    sendProblem(reply, 404, `${request.method} ${request.url} does not exist: use GET /healthz, /readyz or /metrics`);
  });
  http.setErrorHandler((err: Error & { statusCode?: number }, request, reply) => {
    const status = err.statusCode !== undefined && err.statusCode >= 400 && err.statusCode < 500 ? err.statusCode : 500;
    if (status === 500) log?.error({ err, url: request.url }, 'HTTP request failed');
    sendProblem(reply, status, status === 500 ? 'the call failed unexpectedly; the log of the agent contains the error' : rejected);
  });
  return http;
}

function sendProblem(reply: FastifyReply, status: number, detail: string): void {
  const problem = { type: 'about:blank', title: STATUS_CODES[status] ?? 'Error', status, detail };
  void reply.code(status).type('application/problem+json').send(problem);
}

/** Binds the address and returns the port; for port 0, the kernel chooses one. Throws ExitError when the address is not available. */
export async function listenHttp(http: FastifyInstance, at: { readonly address: string; readonly port: number }): Promise<number> {
  try {
    await http.listen({ host: at.address, port: at.port });
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
