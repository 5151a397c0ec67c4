// SPDX-License-Identifier: Apache-2.0
// One resource, followed: list, then watch, for ever. Whatever fails is tried again, ever more slowly; what was known stays
// as it is meanwhile, and an object is withdrawn only when the server says that it is gone: in an event, or by its absence
// from a list that came to its end. Used by kubernetes-source.ts.
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { type ApiClient, CredentialError, Unreachable } from './api-client.ts';
import { ApiStatus } from './api-status.ts';
import { BackOff } from '../../base/back-off.ts';
import type { Intake } from './intake.ts';
import { type Asking, Garbled, list, watch, type WatchEvent } from './list-watch.ts';
import type { Resource } from './resources.ts';

/** All delays are between one half and all of the doubled value. */
const jitter = 0.5;
/** A server that does not answer is asked at least once a second: it is the first thing that we want to know. */
const unreachable = { firstMs: 100, mostMs: 1000, jitter };
/** It answers, but not well: so it does while it starts, or under too much load. */
const unwell = { firstMs: 200, mostMs: 1500, jitter };
/** It will refuse until someone changes something. */
const refused = { firstMs: 200, mostMs: 5000, jitter };
/** The server ended the watch in good order: at once, unless it does so again and again. */
const ended = { firstMs: 50, mostMs: 1000, jitter };
/** A resource that the server does not have, until someone upgrades it. */
const absent = { firstMs: 300_000, mostMs: 300_000, jitter };
const LONGEST_RETRY_AFTER_SECONDS = 60;
/** Refusals that another way of asking would meet too. (403 may be of the verb: who must not watch may list.) */
const plainCodes: ReadonlySet<number> = new Set([401, 404, 410, 429]);
/** Who may list and not watch hears of changes by a list, after so long. */
const POLL_MS = 60_000;
/** A watch that lived so long shows that all is well: what failed before it counts no more. */
const CALM_MS = 10_000;

export interface ReflectorOptions {
  readonly client: ApiClient;
  readonly resource: Resource;
  readonly intake: Intake;
  readonly clock: Clock;
  /** In [0, 1). */
  readonly random: () => number;
  /** How messages name the credentials. */
  readonly credentials: string;
  /** The first list is in the table. */
  readonly onListed: () => void;
  /** problem() or the intake's problems may have changed. */
  readonly onChange: () => void;
}

/** Why the server cannot be followed. */
interface Obstacle {
  /** Equal for all that one cause stands in the way of. */
  readonly about: string;
  readonly message: string;
}

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #backOff: BackOff;
  /** Aborted: whatever is under way ends, and everything is listed again. */
  #round = new AbortController();
  /** Where the watch goes on; undefined: everything must be listed. */
  #position: string | undefined;
  /** A watch that was to begin with everything there is did not come so far: next time it is a list, then a watch again. */
  #mustList = false;
  /** What was tried last. */
  #verb: 'list' | 'watch' = 'watch';
  /** When the watch that is under way began. */
  #calmSince: number | undefined;
  #isListed = false;
  /** When the last list was finished. */
  #listedAt = 0;
  #problem: Obstacle | undefined;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#backOff = new BackOff(options.random);
  }

  /** The first list was finished. */
  get isListed(): boolean {
    return this.#isListed;
  }

  /** At the moment; undefined: there is none. */
  get problem(): Obstacle | undefined {
    return this.#problem;
  }

  /** Lists everything again. */
  relist(): void {
    this.#round.abort(new DOMException('listing again', 'AbortError'));
  }

  /** Follows until the signal is aborted, then resolves. Rejects only for what is a mistake of ours. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#round = new AbortController();
      const either = AbortSignal.any([signal, this.#round.signal]);
      const wait = await this.#follow(either).then(
        () => this.#after(() => this.#backOff.next('ended', ended)),
        (error: unknown) => (either.aborted ? 0 : this.#after(() => this.#failed(error))),
      );
      await this.#sleep(wait, either);
      if (this.#round.signal.aborted) this.#position = undefined;
    }
  }

  /** Until the server ends the watch in good order. */
  async #follow(signal: AbortSignal): Promise<void> {
    const { client, resource, clock, random } = this.#options;
    const asking: Asking = { client, resource, clock, random, signal };
    if (this.#position !== undefined) return this.#watch(asking, { resourceVersion: this.#position });
    if (!this.#mustList) {
      try {
        return await this.#watchAll(asking);
      } catch (error) {
        if (!isUnknownParameter(error)) throw error;
      }
    }
    this.#mustList = false;
    const position = await this.#list(asking);
    return this.#watch(asking, { resourceVersion: position });
  }

  /** What comes after a watch depends on how long it has lived. */
  #after(wait: () => number): number {
    const { clock } = this.#options;
    if (this.#calmSince !== undefined && clock.now() - this.#calmSince >= CALM_MS) this.#backOff.reset();
    this.#calmSince = undefined;
    return wait();
  }

  async #list(asking: Asking): Promise<string> {
    this.#verb = 'list';
    const keys = new Set<string>();
    for await (const page of list(asking)) {
      if ('resourceVersion' in page) {
        this.#listed(keys, page.resourceVersion);
        return page.resourceVersion;
      }
      for (const item of page.items) keys.add(this.#options.intake.put(item));
    }
    throw new Unreachable('the list did not come to its end');
  }

  /** Everything there is by a watch, and then what becomes of it (KEP-3157). */
  async #watchAll(asking: Asking): Promise<void> {
    this.#verb = 'watch';
    const keys = new Set<string>();
    for await (const events of watch(asking, 'initial events')) {
      // The server has agreed. Should it not come to the end of it, the fault may be in this way of asking.
      this.#mustList = this.#position === undefined;
      for (const event of events) {
        if (this.#position !== undefined) this.#apply(event);
        else if (event.type !== 'BOOKMARK') this.#initial(event, keys);
        else if (event.endsInitialEvents) {
          if (event.resourceVersion === '') throw new Garbled('the server sent all there is without a resourceVersion');
          this.#mustList = false;
          this.#listed(keys, event.resourceVersion);
          this.#setProblem(undefined);
          keys.clear();
          this.#calmSince = this.#options.clock.now();
        }
      }
      this.#options.onChange();
    }
    if (this.#position === undefined) throw new Unreachable('the server ended a watch before it had sent everything there is');
  }

  #initial({ type, object }: Exclude<WatchEvent, { type: 'BOOKMARK' }>, keys: Set<string>): void {
    const { intake } = this.#options;
    if (type === 'DELETED') keys.delete(intake.remove(object));
    else keys.add(intake.put(object));
  }

  async #watch(asking: Asking, from: { readonly resourceVersion: string }): Promise<void> {
    this.#verb = 'watch';
    for await (const events of watch(asking, from)) {
      this.#calmSince ??= this.#options.clock.now();
      this.#setProblem(undefined);
      for (const event of events) this.#apply(event);
      this.#options.onChange();
    }
  }

  /** These keys are all there is. */
  #listed(keys: ReadonlySet<string>, resourceVersion: string): void {
    this.#options.intake.retain(keys);
    this.#position = resourceVersion;
    this.#listedAt = this.#options.clock.now();
    if (!this.#isListed) {
      this.#isListed = true;
      this.#options.onListed();
    }
    this.#options.onChange();
  }

  /** Throws when the event is older than what the watch has told before: then nothing is known for sure. */
  #apply(event: WatchEvent): void {
    const { type, resourceVersion } = event;
    if (!isBehind(this.#position, event))
      throw new Garbled(`the server went back in time, to an event of resourceVersion ${resourceVersion}`);
    if (type === 'DELETED') this.#options.intake.remove(event.object);
    else if (type !== 'BOOKMARK') this.#options.intake.put(event.object);
    if (resourceVersion !== '') this.#position = resourceVersion;
  }

  /** Milliseconds until the next try. */
  #failed(error: unknown): number {
    const { resource } = this.#options;
    if (error instanceof ApiStatus) {
      if (error.isExpired) {
        // The server has forgotten what became of things since: no failure, unless it goes on.
        this.#position = undefined;
        this.#setProblem(undefined);
        return this.#backOff.next('expired', refused);
      }
      if (error.code === 404 && resource.isOptional) {
        if (!this.#isListed) this.#listed(new Set(), '');
        this.#position = undefined;
        this.#setProblem(undefined);
        return this.#backOff.next('absent', absent);
      }
      if (this.#verb === 'watch') {
        const isOld = this.#options.clock.now() - this.#listedAt >= POLL_MS;
        if (error.code === 403 && isOld) this.#position = undefined;
        if (this.#position === undefined) this.#mustList = !plainCodes.has(error.code);
      }
      this.#setProblem({ about: `${resource.name} ${error.code}`, message: this.#sentenceOf(error) });
      const { retryAfter } = error;
      const asked = Math.min(retryAfter ?? 0, LONGEST_RETRY_AFTER_SECONDS) * 1000 * (1 + this.#options.random() / 4);
      const delays = error.code === 429 || error.code >= 500 ? unwell : refused;
      return Math.max(asked, this.#backOff.next(`status ${error.code}`, delays));
    }
    const isGarbled = error instanceof Garbled;
    if (!(isGarbled || error instanceof Unreachable || error instanceof CredentialError)) throw error;
    if (isGarbled) this.#position = undefined;
    const what = isGarbled ? resource.name : 'the API server';
    this.#setProblem({ about: `follow ${what}`, message: `${what} cannot be followed: ${messageOf(error)}` });
    return this.#backOff.next(error.name, isGarbled ? unwell : unreachable);
  }

  #sentenceOf({ code, message }: ApiStatus): string {
    const { resource, credentials } = this.#options;
    const verb = this.#verb;
    const what = `cannot ${verb} ${resource.name}: the API server`;
    switch (code) {
      case 401:
        return `${what} does not accept ${credentials}, which may have expired (401 ${message})`;
      case 403:
        return `${what} forbids it: give the ClusterRole the verb "${verb}" on the resource "${resource.name}" (403 ${message})`;
      default:
        return `${what} refuses (${code} ${message})`;
    }
  }

  #setProblem(problem: Obstacle | undefined): void {
    if (problem?.message === this.#problem?.message) return;
    this.#problem = problem;
    this.#options.onChange();
  }

  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = (): void => resolve();
    if (signal.aborted) wake();
    const cancel = this.#options.clock.setTimer(ms, wake);
    signal.addEventListener('abort', wake);
    return promise.finally(() => {
      cancel();
      // Node keeps a signal of AbortSignal.any() for as long as it has a listener.
      signal.removeEventListener('abort', wake);
    });
  }
}

/** Whether the event comes behind the position. Versions are comparable as numbers (KEP-5504); what is no number is believed. */
function isBehind(position: string | undefined, { type, resourceVersion }: WatchEvent): boolean {
  if (position === undefined || !/^\d+$/.test(resourceVersion) || !/^\d+$/.test(position)) return true;
  const [before, now] = [BigInt(position), BigInt(resourceVersion)];
  return now > before || (now === before && type === 'BOOKMARK');
}

/** Servers before 1.27, and later ones without the feature WatchList, refuse the parameters of a streaming list. */
const isUnknownParameter = (error: unknown): boolean =>
  error instanceof ApiStatus && (error.code === 400 || error.code === 422) && /sendInitialEvents|resourceVersionMatch/.test(error.message);
