// SPDX-License-Identifier: Apache-2.0
// A connection to the API server double, over real HTTP/2 on the loopback interface: the server, the client, and a proxy between
// them. The clock of the client is a fake.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import type { ClusterAccess } from '../../../daemon/source/kubernetes/access.ts';
import { ApiServerAddresses } from '../../../daemon/source/kubernetes/api-server-addresses.ts';
import type { ApiServerAddress } from '../../../daemon/model/api-server.ts';
import { Table } from '../../../daemon/table/table.ts';
import type { ApiResponse } from '../../../daemon/source/kubernetes/api-client.ts';
import { Connection } from '../../../daemon/source/kubernetes/connection.ts';
import { ApiServer } from '../../support/double/api-server.ts';
import { serveHttp2 } from '../../support/double/http2-server.ts';
import { startProxy } from '../../support/double/tcp-proxy.ts';
import { FakeClock } from '../../support/fake-clock.ts';

export const services = '/api/v1/services';
export const watchServices = `${services}?watch=1&resourceVersion=1`;

/** Counts the timers that were set. A connection sets one timer when it sends a ping, and one when the answer arrives. */
class CountingClock extends FakeClock {
  timers = 0;
  lastMs = 0;

  override setTimer(ms: number, task: () => void): () => void {
    this.timers += 1;
    this.lastMs = ms;
    return super.setTimer(ms, task);
  }

  /** Advances the clock by 3 s, and waits until the connection has set this number of timers. */
  async ping(timers: 1 | 2): Promise<void> {
    const wanted = this.timers + timers;
    this.advance(3000);
    await until(() => this.timers === wanted);
  }
}

export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await nextTurn();
}

/** A listening double that is closed after the test. */
export async function listen(options: Parameters<typeof serveHttp2>[1] = {}) {
  const api = new ApiServer(new FakeClock());
  const served = await serveHttp2(api, options);
  onTestFinished(() => served.close());
  return { api, served };
}

export async function proxyTo(url: URL) {
  const proxy = await startProxy(Number(url.port));
  onTestFinished(() => proxy.close());
  return { proxy, url: new URL(`http://127.0.0.1:${proxy.port}`) };
}

/** Returns the table of the addresses of these servers. */
export function addressesOf(servers: readonly URL[]) {
  const table = new Table<string, ApiServerAddress>('api-servers', setImmediate);
  const addresses = new ApiServerAddresses(table, servers);
  const rows = (): string[] => [...table.all()].map(([key]) => key).sort();
  return { table, addresses, rows };
}

export function connectTo(servers: readonly URL[], given: Partial<ClusterAccess> = {}, addresses?: ApiServerAddresses) {
  const clock = new CountingClock();
  const invalidated = { times: 0 };
  const access: ClusterAccess = {
    ...{ servers, description: 'the token in /token', tls: () => Promise.resolve({}), authorization: () => Promise.resolve(undefined) },
    invalidate: () => void (invalidated.times += 1),
    close: () => undefined,
    ...given,
  };
  const connection = new Connection({ access, clock, userAgent: 'sluiced/test', ...(addresses === undefined ? {} : { addresses }) });
  onTestFinished(() => connection.close());
  const { signal } = new AbortController();
  const get = (path = services, by = signal): Promise<ApiResponse> => connection.get(path, by);
  return { connection, clock, invalidated, get };
}

export async function textOf({ body }: ApiResponse): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

/** Reads a watch and records its text. */
export class StreamReader {
  text = '';
  /** Undefined while the stream is open. Then 'end', or the error of the stream. */
  end: unknown;

  constructor({ body }: ApiResponse) {
    void this.#read(body).then(
      () => (this.end = 'end'),
      (error: unknown) => (this.end = error),
    );
  }

  async #read(body: ApiResponse['body']): Promise<void> {
    for await (const piece of body) this.text += Buffer.from(piece).toString();
  }
}

/** The URL of a port on which no server listens. */
export async function closedPort(): Promise<URL> {
  const { served } = await listen();
  await served.close();
  return served.url;
}
