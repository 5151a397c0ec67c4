// SPDX-License-Identifier: Apache-2.0
// The double over real HTTP/2 on the loopback, with TLS or without, and what tests see of its connections.
import { createSecureServer, createServer, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { ApiServer } from './api-server.ts';
import type { Certificates } from './certificates.ts';
import { Cut, type Outflow } from './outflow.ts';

export interface Served {
  readonly url: URL;
  /** Open connections, the oldest first. */
  readonly sessions: readonly ServerHttp2Session[];
  /** Connections so far. */
  readonly count: number;
  /** Of each request: its path and what it showed. */
  readonly requests: { readonly path: string; readonly authorization: string | undefined }[];
  /** HTTP/2 error codes of the streams that are closed. */
  readonly codes: number[];
  close(): Promise<void>;
}

/** Paths are given to the double without the prefix. */
export async function serveHttp2(api: ApiServer, options: { readonly tls?: Certificates; readonly prefix?: string } = {}): Promise<Served> {
  const { tls, prefix = '' } = options;
  const server = tls === undefined ? createServer() : createSecureServer({ key: tls.key, cert: tls.cert });
  const sessions: ServerHttp2Session[] = [];
  const requests: Served['requests'] = [];
  const codes: number[] = [];
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
    stream.once('close', () => codes.push(stream.rstCode));
    void answer(api, stream, path.slice(prefix.length));
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
    ...{ url, sessions, requests, codes, close },
    get count() {
      return count;
    },
  };
}

async function answer(api: ApiServer, stream: ServerHttp2Stream, path: string): Promise<void> {
  const gone = new AbortController();
  stream.once('close', () => gone.abort());
  const reply = await api.receive(path, gone.signal);
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

async function send(body: Outflow, stream: ServerHttp2Stream): Promise<void> {
  let goOn = (): void => undefined;
  stream.on('drain', () => goOn());
  stream.once('close', () => goOn());
  try {
    for await (const piece of body) {
      if (stream.destroyed) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      goOn = resolve;
      if (!stream.write(piece)) await promise;
    }
    stream.end();
  } catch (error) {
    if (!(error instanceof Cut)) throw error;
    stream.destroy(error);
  }
}
