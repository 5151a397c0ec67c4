// SPDX-License-Identifier: Apache-2.0
// The way to the double without a network: fails as connection.ts does, at the same times, but on the clock that it is
// given. What is asked is answered within a turn.
import type { Clock } from '../../../daemon/base/clock.ts';
import { type ApiClient, type ApiResponse, Unreachable } from '../../../daemon/source/kubernetes/api-client.ts';
import type { ApiServer } from './api-server.ts';
import { Cut, type Outflow } from './outflow.ts';

const ANSWER_MS = 10_000;

export class MemoryClient implements ApiClient {
  readonly #server: ApiServer;
  readonly #clock: Pick<Clock, 'setTimer'>;
  isClosed = false;

  constructor(server: ApiServer, clock: Pick<Clock, 'setTimer'>) {
    this.#server = server;
    this.#clock = clock;
  }

  async get(path: string, signal: AbortSignal): Promise<ApiResponse> {
    signal.throwIfAborted();
    const late = new AbortController();
    const cancel = this.#clock.setTimer(ANSWER_MS, () => late.abort(new Unreachable('http://double has not answered for 10 s')));
    const either = AbortSignal.any([signal, late.signal]);
    const reply = await this.#server.receive(path, either).finally(cancel);
    if (either.aborted && reply !== 'refuse') reply.body.cancel();
    either.throwIfAborted();
    if (reply === 'refuse') throw new Unreachable('http://double cannot be reached: connect ECONNREFUSED');
    const { status, retryAfter, body } = reply;
    return { status, ...(retryAfter === undefined ? {} : { retryAfter }), body: bodyOf(body, signal) };
  }

  close(): void {
    this.isClosed = true;
  }
}

async function* bodyOf(body: Outflow, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const onAbort = (): void => body.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const piece of body) yield piece;
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof Cut ? new Unreachable(`http://double cut the connection: ${error.message}`) : error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
