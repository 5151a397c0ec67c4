// SPDX-License-Identifier: Apache-2.0
// The service grpc.health.v1.Health, which tells gRPC clients whether the agent is ready. The implementation of the package
// grpc-health-check is not used, because it keeps every name that was ever watched, and writes to watchers that do not read. This file must
// never send SERVING while the view reports that the agent is not ready. Called by grpc.ts.
import { type sendUnaryData, type Server, type ServerUnaryCall, type ServerWritableStream, status as code } from '@grpc/grpc-js';
import { service } from 'grpc-health-check';

import { maxHealthWatches, maxUnreadHealth } from './limits.ts';

/** Names that a health request may contain; "" stands for the whole server. */
const names = ['', 'sluice.v1.Sluice', 'sluice.v1.Admin'];

interface Request {
  readonly service: string;
}

interface Response {
  readonly status: 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
}

type Watch = ServerWritableStream<Request, Response>;

export class Health {
  readonly #isReady: () => boolean;
  /** Watches of the names above. */
  readonly #watches = new Set<Watch>();
  /** Watches of other names. They stay open, as the protocol requires, and get no further message. */
  #unknown = 0;
  #isServing = false;

  constructor(isReady: () => boolean) {
    this.#isReady = isReady;
  }

  /** Sends a change of readiness to the watchers. Cheap and idempotent. */
  publish(): void {
    const isServing = this.#isReady();
    if (isServing === this.#isServing) return;
    this.#isServing = isServing;
    for (const watch of this.#watches) {
      if (watch.writableLength < maxUnreadHealth) watch.write(this.#answer());
      else this.#reject(watch, 'the client does not read the changes');
    }
  }

  /** Every call reads the readiness first, so that the response is current. */
  addTo(server: Server): void {
    server.addService(service, {
      check: ({ request }: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) => {
        this.publish();
        if (names.includes(request.service)) callback(null, this.#answer());
        else callback({ code: code.NOT_FOUND, details: `there is no service with this name: use one of ${names.join(', ')}` });
      },
      list: (_call: unknown, callback: sendUnaryData<{ statuses: Record<string, Response> }>) => {
        this.publish();
        callback(null, { statuses: Object.fromEntries(names.map((name) => [name, this.#answer()])) });
      },
      watch: (call: Watch) => {
        this.publish();
        this.#watch(call);
      },
    });
  }

  #watch(call: Watch): void {
    if (this.#watches.size + this.#unknown >= maxHealthWatches) {
      this.#reject(call, `${maxHealthWatches} watches are in progress: try again later, or call Check`);
      return;
    }
    if (names.includes(call.request.service)) {
      this.#watches.add(call);
      call.once('cancelled', () => this.#watches.delete(call));
      call.write(this.#answer());
    } else {
      this.#unknown += 1;
      call.once('cancelled', () => (this.#unknown -= 1));
      call.write({ status: 'SERVICE_UNKNOWN' });
    }
  }

  #answer(): Response {
    return { status: this.#isServing ? 'SERVING' : 'NOT_SERVING' };
  }

  #reject(call: Watch, details: string): void {
    this.#watches.delete(call);
    call.emit('error', { code: code.RESOURCE_EXHAUSTED, details });
  }
}
