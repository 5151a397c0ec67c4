// SPDX-License-Identifier: Apache-2.0
// A changing set of listeners. set() names the wanted listeners; the class closes and opens listeners accordingly, and retries
// failed ones after a delay and with the next set(). A port that cannot be opened is reported as a problem and logged once. It
// causes no exception and does not affect other listeners. Used by service-health.ts and proxy-health.ts.
import type { Clock } from '../../base/clock.ts';
import { ReasonError } from '../../base/errors.ts';
import type { HttpServers } from '../../base/http-servers.ts';
import { systemReason } from '../../base/reasons.ts';
import { type Listener, openListener, type Responder } from './listener.ts';

export interface WantedListener {
  /** Subject of messages: "the health check of Service default/web". Unique within a set. */
  readonly owner: string;
  /** Undefined means all addresses of both families. */
  readonly addresses: readonly string[] | undefined;
  readonly port: number;
  readonly respond: Responder;
}

/** A change of the state of a listener, for the log. */
export interface ListenerEvent {
  readonly kind: 'opened' | 'closed' | 'failed' | 'recovered';
  readonly owner: string;
  readonly port: number;
  readonly message: string;
}

export interface ListenersOptions {
  readonly servers: Pick<HttpServers, 'create'>;
  readonly clock: Clock;
  /** Time after which failed listeners are retried. */
  readonly retryMs: number;
  readonly onEvent: (event: ListenerEvent) => void;
}

interface Place extends Omit<WantedListener, 'addresses'> {
  /** Undefined means all addresses; "" means that the list of addresses is empty. */
  readonly address: string | undefined;
}

export class Listeners {
  readonly #options: ListenersOptions;
  readonly #open = new Map<string, { readonly place: Place; readonly listener: Listener }>();
  readonly #failed = new Map<string, string>();
  #wanted = new Map<string, Place>();
  #running: Promise<void> | undefined;
  #isStale = false;
  #cancelRetry: (() => void) | undefined;

  constructor(options: ListenersOptions) {
    this.#options = options;
  }

  /** Sets the wanted listeners, in order of precedence. An open listener with the same owner, address and port is kept. */
  set(wanted: Iterable<WantedListener>): void {
    const places = [...wanted].flatMap(({ addresses, ...rest }): Place[] => {
      if (addresses === undefined) return [{ ...rest, address: undefined }];
      return addresses.length === 0 ? [{ ...rest, address: '' }] : addresses.map((address) => ({ ...rest, address }));
    });
    this.#wanted = new Map(places.map((place) => [`${place.owner} ${place.address ?? '*'} ${place.port}`, place]));
    this.#update();
  }

  /** One message for each wanted listener that is not open. */
  problems(): string[] {
    return [...this.#failed.values()];
  }

  /** The open ports. For a listener with port 0, the actual port. */
  ports(): number[] {
    return [...this.#open.values()].map(({ listener }) => listener.port);
  }

  /** Resolves when every wanted listener has been tried. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Closes all listeners. No port is open when it resolves. */
  async close(): Promise<void> {
    this.set([]);
    await this.idle();
  }

  /** Starts the loop, or makes the running loop repeat. */
  #update(): void {
    this.#isStale = true;
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false;
      this.#cancelRetry?.();
      await this.#apply(this.#wanted);
    }
    const { clock, retryMs } = this.#options;
    if (this.#failed.size > 0) this.#cancelRetry = clock.setTimer(retryMs, () => this.#update());
  }

  /** Closes listeners before it opens others, because a port may move from one owner to another. */
  async #apply(wanted: ReadonlyMap<string, Place>): Promise<void> {
    for (const id of [...this.#failed.keys()]) if (!wanted.has(id)) this.#failed.delete(id);
    const unwanted = [...this.#open].filter(([id]) => !wanted.has(id));
    await Promise.all(
      unwanted.map(async ([id, { place, listener }]) => {
        this.#open.delete(id);
        await listener.close();
        this.#report('closed', place, `${place.owner} no longer listens on ${where(place)}`);
      }),
    );
    for (const [id, place] of wanted) if (!this.#open.has(id)) await this.#tryOpen(id, place);
  }

  async #tryOpen(id: string, place: Place): Promise<void> {
    try {
      if (place.address === '') throw new ReasonError('no address of this node matches the configured addresses');
      const { servers } = this.#options;
      const { address, port, respond } = place;
      this.#open.set(id, { place, listener: await openListener({ servers, at: { address, port }, respond }) });
    } catch (error) {
      const message = `${place.owner} cannot listen on ${where(place)}: ${reasonOf(error)}`;
      const isNew = !this.#failed.has(id);
      this.#failed.set(id, message);
      if (isNew) this.#report('failed', place, message);
      return;
    }
    if (this.#failed.delete(id)) this.#report('recovered', place, `${place.owner} listens on ${where(place)} after a retry`);
    else this.#report('opened', place, `${place.owner} listens on ${where(place)}`);
  }

  #report(kind: ListenerEvent['kind'], { owner, port }: Place, message: string): void {
    this.#options.onEvent({ kind, owner, port, message });
  }
}

const where = ({ address, port }: Place): string => `port ${port}${address === undefined || address === '' ? '' : ` of ${address}`}`;

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use by another process or another Service',
  EADDRNOTAVAIL: 'this node does not have the address',
  EACCES: 'the port requires the capability NET_BIND_SERVICE',
};

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return reasons[code] ?? systemReason(error);
}
