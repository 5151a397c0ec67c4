// SPDX-License-Identifier: Apache-2.0
// A client of the double without a network. Its errors and timeouts are those of connection.ts, but it uses the clock of the test. A
// request is answered within one turn of the event loop.
import type { Clock } from '../../../daemon/base/clock.ts';
import { type ApiClient, type ApiResponse, UnreachableError } from '../../../daemon/source/kubernetes/api-client.ts';
import { Redactor } from '../../../daemon/source/kubernetes/redact.ts';
import type { ApiServer } from './api-server.ts';
import { InterruptedError, type ResponseBody } from './response-body.ts';

const RESPONSE_MS = 10_000;

export class MemoryClient implements ApiClient {
  readonly #server: ApiServer;
  readonly #clock: Pick<Clock, 'setTimer'>;
  readonly redactor = new Redactor();
  isClosed = false;

  constructor(server: ApiServer, clock: Pick<Clock, 'setTimer'>) {
    this.#server = server;
    this.#clock = clock;
  }

  async get(path: string, signal: AbortSignal): Promise<ApiResponse> {
    signal.throwIfAborted();
    const late = new AbortController();
    const cancel = this.#clock.setTimer(RESPONSE_MS, () => late.abort(new UnreachableError('http://double did not respond within 10 s')));
    const either = AbortSignal.any([signal, late.signal]);
    const reply = await this.#server.receive(path, either).finally(cancel);
    if (either.aborted && reply !== 'refuse') reply.body.cancel();
    either.throwIfAborted();
    if (reply === 'refuse') throw new UnreachableError('http://double cannot be reached: connect ECONNREFUSED');
    const { status, retryAfter, body } = reply;
    return { status, ...(retryAfter === undefined ? {} : { retryAfter }), body: bodyOf(body, signal) };
  }

  redact(text: string): string {
    return this.redactor.redact(text);
  }

  close(): void {
    this.isClosed = true;
  }
}

async function* bodyOf(body: ResponseBody, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const onAbort = (): void => body.cancel();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    for await (const piece of body) yield piece;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof InterruptedError)) throw error;
    throw new UnreachableError(`the connection to http://double was interrupted: ${error.message}`, { cause: error });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
