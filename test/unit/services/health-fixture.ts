// SPDX-License-Identifier: Apache-2.0
// Real requests to the health servers, and ports to give them.
import { createServer, request, type IncomingHttpHeaders } from 'node:http';

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface Ask {
  readonly port: number;
  readonly host?: string;
  readonly method?: string;
  readonly path?: string;
}

/** Rejects with the system's error when nobody listens. */
export function ask({ port, host = '127.0.0.1', method = 'GET', path = '/' }: Ask): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const asked = request({ host, port, method, path, agent: false });
  asked.on('error', reject);
  asked.on('response', (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
    );
  });
  // node:http gives the answer to CONNECT away with its socket: the status and headers are all that a client looks at.
  asked.on('connect', (response, socket) => {
    socket.destroy();
    resolve({ status: response.statusCode ?? 0, headers: response.headers, body: '' });
  });
  asked.end();
  return promise;
}

/** "ECONNREFUSED" and the like, or the status. */
export const outcome = (what: Ask): Promise<string | number> =>
  ask(what).then(
    ({ status }) => status,
    (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
  );

/** Takes a port as another process would; rejects when it is taken. */
export async function occupy(port?: number): Promise<{ port: number; free(): Promise<void> }> {
  if (port === undefined) return occupy((await freePorts(1))[0]);
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.on('error', reject).listen(port, '::', resolve));
  return { port, free: () => new Promise((resolve) => server.close(() => resolve())) };
}

/** Below the ephemeral ports, which other tests' connections take; from another place in each test process. */
let next = (process.pid * 61) % 20_000;

/** Ports that nobody has at this moment, each once. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    next = (next + 1) % 20_000;
    const port = 10_000 + next;
    const isFree = await occupy(port).then(
      (taken) => taken.free().then(() => true),
      () => false,
    );
    if (isFree) ports.push(port);
  }
  return ports;
}
