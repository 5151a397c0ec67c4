// SPDX-License-Identifier: Apache-2.0
// Serves the double over real HTTP/2 on the loopback interface, with or without TLS, and records connections and streams for
// tests.
import { createSecureServer, createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { ApiServer } from './api-server.ts';
import type { Certificates } from './certificates.ts';
import { InterruptedError, type ResponseBody } from './response-body.ts';

export interface HttpServer {
  readonly url: URL;
  /** Open connections, oldest first. */
  readonly sessions: readonly ServerHttp2Session[];
  /** Number of connections so far. */
  readonly count: number;
  /** Path and Authorization header of each request. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[];
  /** HTTP/2 error codes of closed streams. */
  readonly streamCodes: number[];
  close(): Promise<void>;
}

/** The prefix is removed from paths before the double receives them. */
export async function serveHttp2(
  api: ApiServer,
  options: { readonly tls?: Certificates; readonly prefix?: string } = {},
): Promise<HttpServer> {
  const { tls, prefix = '' } = options;
  const server = tls === undefined ? createServer() : createSecureServer({ key: tls.key, cert: tls.cert });
  const sessions: ServerHttp2Session[] = [];
  const requests: HttpServer['requests'] = [];
  const streamCodes: number[] = [];
  let count = 0;
  server.on('session', (session: ServerHttp2Session) => {
    count += 1;
    sessions.push(session);
    session.on('error', () => undefined);
    session.once('close', () => sessions.splice(sessions.indexOf(session), 1));
  });
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const path = String(headers[':path']);
    requests.push({ path, authorization: headers.authorization });
    stream.on('error', () => undefined);
    stream.once('close', () => streamCodes.push(stream.rstCode));
    void respond(api, stream, path.slice(prefix.length));
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const close = (): Promise<void> => {
    for (const session of [...sessions]) session.destroy();
    return new Promise((resolve) => {
      server.close(() => resolve());
    });
  };
  const url = new URL(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}${prefix}`);
  return {
    ...{ url, sessions, requests, streamCodes, close },
    get count() {
      return count;
    },
  };
}

async function respond(api: ApiServer, stream: ServerHttp2Stream, path: string): Promise<void> {
  const closed = new AbortController();
  stream.once('close', () => closed.abort());
  const reply = await api.receive(path, closed.signal);
  if (reply === 'refuse') return stream.session?.destroy();
  const { status, retryAfter, body } = reply;
  if (stream.closed) return body.cancel();
  stream.once('close', () => body.cancel());
  stream.respond({
    ':status': status,
    'content-type': 'application/json',
    ...(retryAfter === undefined ? {} : { 'retry-after': String(retryAfter) }),
  });
  await send(body, stream);
}

async function send(body: ResponseBody, stream: ServerHttp2Stream): Promise<void> {
  let resume = (): void => undefined;
  stream.on('drain', () => resume());
  stream.once('close', () => resume());
  try {
    for await (const piece of body) {
      if (stream.destroyed) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      resume = resolve;
      if (!stream.write(piece)) await promise;
    }
    stream.end();
  } catch (error) {
    if (!(error instanceof InterruptedError)) throw error;
    stream.destroy(error);
  }
}
