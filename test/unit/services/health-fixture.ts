// SPDX-License-Identifier: Apache-2.0
// HTTP requests to the health servers on the loopback, and free ports for these servers. Used by the health tests in this
// folder. A test must free every port that it occupies.
import { createServer, request, type IncomingHttpHeaders } from 'node:http';

export interface Reply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

interface Ask {
  readonly port: number;
  readonly host?: string;
  readonly localAddress?: string;
  readonly method?: string;
  readonly path?: string;
}

/** Sends a request. Rejects with the system error if no process listens on the port. */
export function ask({ port, host = '127.0.0.1', localAddress, method = 'GET', path = '/' }: Ask): Promise<Reply> {
  const { promise, resolve, reject } = Promise.withResolvers<Reply>();
  const asked = request({ host, port, localAddress, method, path, agent: false });
  asked.on('error', reject);
  asked.on('response', (response) => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', reject);
    response.on('end', () =>
      resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks).toString() }),
    );
  });
  // After CONNECT, node:http does not read a body. The reply has only the status and the headers.
  asked.on('connect', (response, socket) => {
    socket.destroy();
    resolve({ status: response.statusCode ?? 0, headers: response.headers, body: '' });
  });
  asked.end();
  return promise;
}

/** The status of the reply, or the code of the system error, such as "ECONNREFUSED". */
export const outcome = (what: Ask): Promise<string | number> =>
  ask(what).then(
    ({ status }) => status,
    (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : String(error)),
  );

/** Occupies a port, as another process would. Rejects if the port is in use. */
export async function occupy(port?: number): Promise<{ port: number; free(): Promise<void> }> {
  if (port === undefined) return occupy((await freePorts(1))[0]);
  const server = createServer();
  await new Promise<void>((resolve, reject) => server.on('error', reject).listen(port, '::', resolve));
  return { port, free: () => new Promise((resolve) => server.close(() => resolve())) };
}

/**
 * The last port that was tried, minus 10,000. All ports are below the ephemeral range, because connections of other tests use that
 * range. The start depends on the process id, so that parallel test processes use different ports.
 */
let next = (process.pid * 61) % 20_000;

/** Returns distinct ports that are free at this moment. */
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
