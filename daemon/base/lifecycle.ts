// SPDX-License-Identifier: Apache-2.0
// Starts units in order and stops them in reverse order, within a bounded time. agent.ts lists the units; the constructor of a unit does no
// work, because all work belongs in start(). A unit that fails to stop must never be hidden: the report names it. Called by main.ts.
import type { Clock } from './clock.ts';

export interface Unit {
  readonly name: string;
  /** Resolves when the unit works. Before it rejects, it undoes its own work. It must end soon after the signal aborts. */
  start(signal: AbortSignal): Promise<void>;
  /** Called at most once, and only after start() has resolved. */
  stop(): Promise<void>;
}

/** Result of a stop; both lists are empty after a clean stop. */
export interface StopReport {
  /** Units that did not stop in time. */
  readonly unstopped: readonly string[];
  readonly failures: readonly { readonly unit: string; readonly error: unknown }[];
}

export interface LifecycleOptions {
  readonly units: readonly Unit[];
  readonly clock: Clock;
  /** Time limit for all stops together. It must be less than 5 s, because the process must end within 5 s. */
  readonly stopBudgetMs?: number;
  /** Called after each start and stop, for the log. */
  readonly onEvent?: (event: {
    readonly unit: string;
    readonly did: 'started' | 'stopped' | 'stop failed' | 'stop timed out';
    readonly ms: number;
  }) => void;
}

const defaultStopBudgetMs = 4500;

/** Time reserved for each unit that is still to be stopped, so that a unit that hangs does not use up all time. */
const reserveMs = 250;

type Outcome = { readonly kind: 'done' } | { readonly kind: 'failed'; readonly error: unknown } | { readonly kind: 'timeout' };

export class Lifecycle {
  readonly #options: LifecycleOptions;
  readonly #stopping = new AbortController();
  readonly #started: Unit[] = [];
  #starting: Promise<void> | undefined;
  #stopped: Promise<StopReport> | undefined;

  constructor(options: LifecycleOptions) {
    this.#options = options;
  }

  /**
   * Starts every unit. When a unit fails, the signal aborts, or stop() is called, it stops the started units and throws the
   * reason. Call once.
   */
  async start(signal?: AbortSignal): Promise<void> {
    const own = this.#stopping.signal;
    const either = signal === undefined ? own : AbortSignal.any([signal, own]);
    this.#starting = this.#startAll(either);
    const aborted = Promise.withResolvers<never>();
    // A unit may ignore the signal; stop() limits the time to wait for it.
    const onAbort = (): void => void this.stop().then(() => aborted.reject(either.reason));
    either.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#starting, aborted.promise]);
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      either.removeEventListener('abort', onAbort);
    }
  }

  /**
   * Stops every started unit in reverse order. First waits for a running start(), for a limited time. Never rejects; every call gets the
   * same report.
   */
  stop(): Promise<StopReport> {
    this.#stopped ??= this.#stopAll();
    return this.#stopped;
  }

  async #startAll(signal: AbortSignal): Promise<void> {
    for (const unit of this.#options.units) {
      signal.throwIfAborted();
      const began = this.#options.clock.now();
      await unit.start(signal);
      this.#started.push(unit);
      this.#report(unit, 'started', began);
    }
    signal.throwIfAborted();
  }

  async #stopAll(): Promise<StopReport> {
    const deadline = this.#options.clock.now() + (this.#options.stopBudgetMs ?? defaultStopBudgetMs);
    const unstopped: string[] = [];
    const failures: { unit: string; error: unknown }[] = [];
    this.#stopping.abort(new DOMException('the daemon is stopping', 'AbortError'));
    const hung = await this.#finishStarting(deadline);
    if (hung !== undefined) unstopped.push(hung);

    for (let unit = this.#started.pop(); unit !== undefined; unit = this.#started.pop()) {
      const began = this.#options.clock.now();
      const outcome = await this.#bounded(() => unit.stop(), this.#share(deadline));
      if (outcome.kind === 'timeout') unstopped.push(unit.name);
      if (outcome.kind === 'failed') failures.push({ unit: unit.name, error: outcome.error });
      this.#report(unit, outcome.kind === 'done' ? 'stopped' : outcome.kind === 'failed' ? 'stop failed' : 'stop timed out', began);
    }
    return { unstopped, failures };
  }

  /** Waits until no unit is starting. Returns the name of a unit whose start() does not end in time. */
  async #finishStarting(deadline: number): Promise<string | undefined> {
    const starting = this.#starting;
    if (starting === undefined) return undefined;
    const outcome = await this.#bounded(() => starting, this.#share(deadline));
    return outcome.kind === 'timeout' ? this.#options.units[this.#started.length]?.name : undefined;
  }

  /**
   * Time for one stop: the remaining time minus the reserve for the units after this one. It is at least reserveMs, as long as
   * that much time remains.
   */
  #share(deadline: number): number {
    const left = deadline - this.#options.clock.now() - this.#started.length * reserveMs;
    return Math.max(left, Math.min(reserveMs, Math.max(0, deadline - this.#options.clock.now())));
  }

  #bounded(task: () => Promise<void>, ms: number): Promise<Outcome> {
    return new Promise((resolve) => {
      const cancel = this.#options.clock.setTimer(ms, () => resolve({ kind: 'timeout' }));
      const settle = (outcome: Outcome): void => {
        cancel();
        resolve(outcome);
      };
      // The async wrapper also catches a stop() that throws synchronously.
      void (async () => task())().then(
        () => settle({ kind: 'done' }),
        (error: unknown) => settle({ kind: 'failed', error }),
      );
    });
  }

  #report(unit: Unit, did: 'started' | 'stopped' | 'stop failed' | 'stop timed out', began: number): void {
    this.#options.onEvent?.({ unit: unit.name, did, ms: this.#options.clock.now() - began });
  }
}
