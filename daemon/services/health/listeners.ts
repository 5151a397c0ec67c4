// SPDX-License-Identifier: Apache-2.0
// A changing set of listeners: told which are wanted, it closes, opens, and tries again what could not be opened, with the
// next set() and after a while. A port that cannot be had is a sentence for status and one line for the log, never an
// error: the others go on. Used by service-health.ts and proxy-health.ts.
import type { Clock } from '../../base/clock.ts';
import { type Answerer, type Listener, openListener } from './listener.ts';

export interface WantedListener {
  /** Who listens, for sentences: "the health check of Service default/web". Unique within a set. */
  readonly owner: string;
  /** Undefined: all addresses of both families. */
  readonly addresses: readonly string[] | undefined;
  readonly port: number;
  readonly answer: Answerer;
}

/** A change of state, for the log. */
export interface ListenerEvent {
  readonly did: 'opened' | 'closed' | 'failed' | 'recovered';
  readonly owner: string;
  readonly port: number;
  readonly sentence: string;
}

export interface ListenersOptions {
  readonly clock: Clock;
  /** How long until what failed is tried again. */
  readonly retryMs: number;
  readonly onEvent: (event: ListenerEvent) => void;
}

interface Place extends Omit<WantedListener, 'addresses'> {
  /** "" when the owner may listen on no address at all. */
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

  /** What shall be open from now on, in order of precedence. A listener that is open with the same owner, address and port stays. */
  set(wanted: Iterable<WantedListener>): void {
    const places = [...wanted].flatMap(({ addresses, ...rest }): Place[] => {
      if (addresses === undefined) return [{ ...rest, address: undefined }];
      return addresses.length === 0 ? [{ ...rest, address: '' }] : addresses.map((address) => ({ ...rest, address }));
    });
    this.#wanted = new Map(places.map((place) => [`${place.owner} ${place.address ?? '*'} ${place.port}`, place]));
    this.#kick();
  }

  /** One sentence for each listener that is wanted and not open. */
  problems(): string[] {
    return [...this.#failed.values()];
  }

  /** The ports that are open, for those who asked for 0. */
  ports(): number[] {
    return [...this.#open.values()].map(({ listener }) => listener.port);
  }

  /** Resolves when everything wanted has been tried. */
  async idle(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
  }

  /** Closes all; nothing is open when it resolves. */
  async close(): Promise<void> {
    this.set([]);
    await this.idle();
  }

  #kick(): void {
    this.#isStale = true;
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false;
      this.#cancelRetry?.();
      await this.#makeSo(this.#wanted);
    }
    const { clock, retryMs } = this.#options;
    if (this.#failed.size > 0) this.#cancelRetry = clock.setTimer(retryMs, () => this.#kick());
  }

  /** Closing comes first: a port may go from one owner to another. */
  async #makeSo(wanted: ReadonlyMap<string, Place>): Promise<void> {
    for (const id of [...this.#failed.keys()]) if (!wanted.has(id)) this.#failed.delete(id);
    const unwanted = [...this.#open].filter(([id]) => !wanted.has(id));
    await Promise.all(
      unwanted.map(async ([id, { place, listener }]) => {
        this.#open.delete(id);
        await listener.close();
        this.#tell('closed', place, `${place.owner} no longer listens on ${where(place)}`);
      }),
    );
    for (const [id, place] of wanted) if (!this.#open.has(id)) await this.#tryOpen(id, place);
  }

  async #tryOpen(id: string, place: Place): Promise<void> {
    try {
      if (place.address === '') throw new Error("none of this node's addresses may be used");
      this.#open.set(id, { place, listener: await openListener({ address: place.address, port: place.port }, place.answer) });
    } catch (error) {
      const sentence = `${place.owner} cannot listen on ${where(place)}: ${reasonOf(error)}`;
      const isNew = !this.#failed.has(id);
      this.#failed.set(id, sentence);
      if (isNew) this.#tell('failed', place, sentence);
      return;
    }
    if (this.#failed.delete(id)) this.#tell('recovered', place, `${place.owner} listens on ${where(place)} after all`);
    else this.#tell('opened', place, `${place.owner} listens on ${where(place)}`);
  }

  #tell(did: ListenerEvent['did'], { owner, port }: Place, sentence: string): void {
    this.#options.onEvent({ did, owner, port, sentence });
  }
}

const where = ({ address, port }: Place): string => `port ${port}${address === undefined || address === '' ? '' : ` of ${address}`}`;

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another process, or another Service, has the port',
  EADDRNOTAVAIL: 'the address is not one of this node',
  EACCES: 'the port needs the capability NET_BIND_SERVICE',
};

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = 'code' in error ? String(error.code) : '';
  return reasons[code] ?? error.message;
}
