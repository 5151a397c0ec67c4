// SPDX-License-Identifier: Apache-2.0
// Follows one resource: lists it, then watches it, and repeats this until it is stopped. Every failure is retried with back-off, and the
// rows stay unchanged meanwhile. A row is deleted only when the server reports that the object is gone: in an event, or by its absence from
// a complete list. Used by kubernetes-source.ts.
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { BackOff } from '../../base/back-off.ts';
import { type ApiClient, CredentialError, UnreachableError } from './api-client.ts';
import { LimitError } from './json-stream.ts';
import { list, MalformedResponseError, type ResourceRequest, watch, type WatchEvent } from './list-watch.ts';
import type { Resource } from './resources.ts';
import { StatusError } from './status-error.ts';
import type { TableWriter } from './table-writer.ts';

/** Each delay is a random value between 50 % and 100 % of the computed back-off. */
const jitter = 0.5;
/** Delays when the server does not respond. It is tried about once a second or more often, so that its recovery is noticed soon. */
const unreachableDelays = { firstMs: 100, mostMs: 1000, jitter };
/** Delays when the server responds with 429, 5xx or a malformed response, for example while it starts or is overloaded. */
const serverErrorDelays = { firstMs: 200, mostMs: 1500, jitter };
/** Delays when the server refuses the request until its configuration or state changes. */
const refusedDelays = { firstMs: 200, mostMs: 5000, jitter };
/** Delays when the server ended the watch normally. The delay grows if this happens repeatedly. */
const endedDelays = { firstMs: 50, mostMs: 1000, jitter };
/** Delays when the server does not have the resource and must be upgraded first. */
const absentDelays = { firstMs: 300_000, mostMs: 300_000, jitter };
/**
 * Delays when the server sends more than limits.ts allows. Each attempt transfers as much again, and an administrator must remove the
 * cause.
 */
const limitDelays = { firstMs: 1000, mostMs: 60_000, jitter };
const MAX_RETRY_AFTER_SECONDS = 60;
/**
 * Status codes of refusals that do not depend on the form of the request, so that the server would also refuse a LIST. (A 403 may concern
 * WATCH only.)
 */
const codesOfAllRequests: ReadonlySet<number> = new Set([401, 404, 410, 429]);
/** Without the right to watch, the resource is polled with a LIST at this interval. */
const POLL_MS = 60_000;
/** A watch that lasted this long shows that the server works, so earlier failures no longer count. */
const HEALTHY_MS = 10_000;

export interface ReflectorOptions {
  readonly client: ApiClient;
  readonly resource: Resource;
  readonly writer: TableWriter;
  readonly clock: Clock;
  /** Returns numbers in [0, 1). */
  readonly random: () => number;
  /** Text by which messages name the credentials, such as "user admin of /root/.kube/config". */
  readonly credentials: string;
  /** Called when the first list is in the table. */
  readonly onListed: () => void;
  /** Called when `problem` or the problems of the writer may have changed. */
  readonly onChange: () => void;
}

/** The reason why the resource cannot be followed. */
interface ReflectorProblem {
  /** Text that is equal for all problems with the same cause. */
  readonly identity: string;
  readonly message: string;
}

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #backOff: BackOff;
  /** Aborted by relist(), which ends the present request. */
  #cycle = new AbortController();
  /** The next watch continues from this resourceVersion; undefined when a list is necessary. */
  #resourceVersion: string | undefined;
  /**
   * A watch with initial events was accepted but failed before their end. The next request is then a LIST. If the LIST fails, the
   * request after it uses initial events again.
   */
  #mustList = false;
  /** Verb of the last request. */
  #verb: 'list' | 'watch' = 'watch';
  /** Time at which the present watch was accepted. */
  #watchingSince: number | undefined;
  #isListed = false;
  /** Time at which the last list was complete. */
  #listedAt = 0;
  #problem: ReflectorProblem | undefined;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#backOff = new BackOff(options.random);
  }

  /** True when the first list was complete. */
  get isListed(): boolean {
    return this.#isListed;
  }

  /** The present problem; undefined when there is none. */
  get problem(): ReflectorProblem | undefined {
    return this.#problem;
  }

  /** Lists all objects again. */
  relist(): void {
    this.#cycle.abort(new DOMException('listing again', 'AbortError'));
  }

  /** Runs until the signal is aborted, then resolves. Rejects only with a programming error. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#cycle = new AbortController();
      const either = AbortSignal.any([signal, this.#cycle.signal]);
      const delay = await this.#follow(either).then(
        () => this.#delayAfter(() => this.#backOff.next('ended', endedDelays)),
        (error: unknown) => (either.aborted ? 0 : this.#delayAfter(() => this.#failed(error))),
      );
      await this.#sleep(delay, either);
      if (this.#cycle.signal.aborted) this.#resourceVersion = undefined;
    }
  }

  /** Resolves when the server ends the watch normally. */
  async #follow(signal: AbortSignal): Promise<void> {
    const { client, resource, clock, random } = this.#options;
    const request: ResourceRequest = { client, resource, clock, random, signal };
    if (this.#resourceVersion !== undefined) return this.#watch(request, this.#resourceVersion);
    if (!this.#mustList) {
      try {
        return await this.#watchWithInitialEvents(request);
      } catch (error) {
        if (!isUnknownParameter(error)) throw error;
      }
    }
    this.#mustList = false;
    return this.#watch(request, await this.#list(request));
  }

  /** Resets the back-off if the watch that ended lasted long enough, then computes the delay. */
  #delayAfter(delay: () => number): number {
    const { clock } = this.#options;
    if (this.#watchingSince !== undefined && clock.now() - this.#watchingSince >= HEALTHY_MS) this.#backOff.reset();
    this.#watchingSince = undefined;
    return delay();
  }

  async #list(request: ResourceRequest): Promise<string> {
    this.#verb = 'list';
    const keys = new Set<string>();
    for await (const page of list(request)) {
      if ('resourceVersion' in page) {
        this.#finishList(keys, page.resourceVersion);
        return page.resourceVersion;
      }
      for (const item of page.items) keys.add(this.#options.writer.put(item));
    }
    throw new UnreachableError('the list is incomplete');
  }

  /** Receives all objects through a watch, and then the changes of the objects (KEP-3157). */
  async #watchWithInitialEvents(request: ResourceRequest): Promise<void> {
    this.#verb = 'watch';
    const keys = new Set<string>();
    for await (const events of watch(request, 'initial events')) {
      // The server accepted the watch. If the initial events do not end, the server may not support this form of request.
      this.#mustList = this.#resourceVersion === undefined;
      for (const event of events) {
        if (this.#resourceVersion !== undefined) this.#apply(event);
        else if (event.type !== 'BOOKMARK') this.#applyInitial(event, keys);
        else if (event.endsInitialEvents) {
          if (event.resourceVersion === '')
            throw new MalformedResponseError('the server ended the initial events without a resourceVersion');
          this.#mustList = false;
          this.#finishList(keys, event.resourceVersion);
          this.#setProblem(undefined);
          keys.clear();
          this.#watchingSince = this.#options.clock.now();
        }
      }
      this.#options.onChange();
    }
    if (this.#resourceVersion === undefined) throw new UnreachableError('the server ended a watch before the end of the initial events');
  }

  #applyInitial({ type, object }: Exclude<WatchEvent, { type: 'BOOKMARK' }>, keys: Set<string>): void {
    const { writer } = this.#options;
    if (type === 'DELETED') keys.delete(writer.delete(object));
    else keys.add(writer.put(object));
  }

  async #watch(request: ResourceRequest, resourceVersion: string): Promise<void> {
    this.#verb = 'watch';
    for await (const events of watch(request, { resourceVersion })) {
      this.#watchingSince ??= this.#options.clock.now();
      this.#setProblem(undefined);
      for (const event of events) this.#apply(event);
      this.#options.onChange();
    }
  }

  /** Ends a list: deletes the rows of all objects that are not in `keys`, and records the resourceVersion. */
  #finishList(keys: ReadonlySet<string>, resourceVersion: string): void {
    this.#options.writer.deleteOthers(keys);
    this.#resourceVersion = resourceVersion;
    this.#listedAt = this.#options.clock.now();
    if (!this.#isListed) {
      this.#isListed = true;
      this.#options.onListed();
    }
    this.#options.onChange();
  }

  /**
   * Applies an event of a watch. Throws when it is older than an earlier event, because the state of the server is then unknown.
   */
  #apply(event: WatchEvent): void {
    const { type, resourceVersion } = event;
    if (!isNewer(this.#resourceVersion, event))
      throw new MalformedResponseError(
        `the server sent an event with resourceVersion ${resourceVersion}, which is not newer than ${this.#resourceVersion}`,
      );
    if (type === 'DELETED') this.#options.writer.delete(event.object);
    else if (type !== 'BOOKMARK') this.#options.writer.put(event.object);
    if (resourceVersion !== '') this.#resourceVersion = resourceVersion;
  }

  /** Records the failure. Returns the delay in ms until the next try. */
  #failed(error: unknown): number {
    if (error instanceof StatusError) return this.#refused(error);
    const { resource } = this.#options;
    const isLimit = error instanceof LimitError;
    const isMalformed = isLimit || error instanceof MalformedResponseError;
    if (!(isMalformed || error instanceof UnreachableError || error instanceof CredentialError)) throw error;
    if (isMalformed) this.#resourceVersion = undefined;
    const what = isMalformed ? resource.name : 'the API server';
    this.#setProblem({ identity: `watch ${what}`, message: `cannot watch ${what}: ${messageOf(error)}` });
    return this.#backOff.next(error.name, isLimit ? limitDelays : isMalformed ? serverErrorDelays : unreachableDelays);
  }

  #refused(error: StatusError): number {
    const { resource, clock, random } = this.#options;
    if (error.isExpired) {
      // The server has compacted the history since this version, so a list is necessary. Only repeated expiry counts as a failure.
      this.#resourceVersion = undefined;
      this.#setProblem(undefined);
      return this.#backOff.next('expired', refusedDelays);
    }
    if (error.code === 404 && resource.isOptional) {
      if (!this.#isListed) this.#finishList(new Set(), '');
      this.#resourceVersion = undefined;
      this.#setProblem(undefined);
      return this.#backOff.next('absent', absentDelays);
    }
    if (this.#verb === 'watch') {
      const isOld = clock.now() - this.#listedAt >= POLL_MS;
      if (error.code === 403 && isOld) this.#resourceVersion = undefined;
      if (this.#resourceVersion === undefined) this.#mustList = !codesOfAllRequests.has(error.code);
    }
    this.#setProblem({ identity: `${resource.name} ${error.code}`, message: this.#messageOf(error) });
    const requestedMs = Math.min(error.retryAfter ?? 0, MAX_RETRY_AFTER_SECONDS) * 1000 * (1 + random() / 4);
    const delays = error.code === 429 || error.code >= 500 ? serverErrorDelays : refusedDelays;
    return Math.max(requestedMs, this.#backOff.next(`status ${error.code}`, delays));
  }

  #messageOf({ code, message }: StatusError): string {
    const { resource, credentials } = this.#options;
    const verb = this.#verb;
    const failure = `cannot ${verb} ${resource.name}`;
    switch (code) {
      case 401:
        return `${failure}: the API server does not accept ${credentials}, which may have expired (401 ${message})`;
      case 403:
        return `${failure}: the ClusterRole must grant the verb "${verb}" on the resource "${resource.name}" (403 ${message})`;
      default:
        return `${failure}: the API server refused the request (${code} ${message})`;
    }
  }

  #setProblem(found: ReflectorProblem | undefined): void {
    // Texts of the server and of exec plugins leave this file only here, so they are redacted here.
    const problem = found === undefined ? undefined : { ...found, message: this.#options.client.redact(found.message) };
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
      // The listener is removed, because Node.js retains a signal of AbortSignal.any() while it has a listener.
      signal.removeEventListener('abort', wake);
    });
  }
}

/**
 * Whether the event is newer than the version `previous`. Versions compare as numbers (KEP-5504); every version that is not a
 * number counts as newer.
 */
function isNewer(previous: string | undefined, { type, resourceVersion }: WatchEvent): boolean {
  if (previous === undefined || !/^\d+$/.test(resourceVersion) || !/^\d+$/.test(previous)) return true;
  const [before, now] = [BigInt(previous), BigInt(resourceVersion)];
  return now > before || (now === before && type === 'BOOKMARK');
}

/** Servers before 1.27, and later ones without the WatchList feature, refuse the parameters of a watch with initial events. */
const isUnknownParameter = (error: unknown): boolean =>
  error instanceof StatusError &&
  (error.code === 400 || error.code === 422) &&
  /sendInitialEvents|resourceVersionMatch/.test(error.message);
