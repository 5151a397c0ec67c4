// SPDX-License-Identifier: Apache-2.0
// Units started in order and stopped in reverse, inside a bounded time. agent.ts lists them; a unit's constructor does
// nothing, all work is in start(). Lifecycle must never hide a unit that failed to stop: it names it.
import type { Clock } from './clock.ts';

export interface Unit {
  readonly name: string;
  /** Resolves when the unit works. One that rejects has undone its own work. Must give up soon after the signal aborts. */
  start(signal: AbortSignal): Promise<void>;
  /** Called at most once, and only when start() resolved. */
  stop(): Promise<void>;
}

/** What stopping came to; both lists are empty after a clean stop. */
export interface StopReport {
  /** Units still busy when their time was over. */
  readonly unstopped: readonly string[];
  readonly failures: readonly { readonly unit: string; readonly error: unknown }[];
}

export interface LifecycleOptions {
  readonly units: readonly Unit[];
  readonly clock: Clock;
  /** For all stops together; below the 5 s within which the process must be gone. */
  readonly stopBudgetMs?: number;
  /** Hears of each unit; for the log. */
  readonly onEvent?: (event: {
    readonly unit: string;
    readonly did: 'started' | 'stopped' | 'stop failed' | 'stop timed out';
    readonly ms: number;
  }) => void;
}

const defaultStopBudgetMs = 4500;

/** Kept back for each unit that is stopped later, so that one that hangs does not take the others' time. */
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
   * Starts every unit. When one fails, or the signal aborts, or stop() is called, what was started is stopped and the
   * reason is thrown. Call once.
   */
  async start(signal?: AbortSignal): Promise<void> {
    const own = this.#stopping.signal;
    const either = signal === undefined ? own : AbortSignal.any([signal, own]);
    this.#starting = this.#startAll(either);
    const aborted = Promise.withResolvers<never>();
    // A unit may be deaf to the signal: stop() bounds the wait for it.
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

  /** Stops every started unit in reverse. Never rejects; every call gets the one report. Waits for a start under way to give up. */
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
      this.#tell(unit, 'started', began);
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
      this.#tell(unit, outcome.kind === 'done' ? 'stopped' : outcome.kind === 'failed' ? 'stop failed' : 'stop timed out', began);
    }
    return { unstopped, failures };
  }

  /** Waits until no unit is starting any more. Returns the name of one that would not give up. */
  async #finishStarting(deadline: number): Promise<string | undefined> {
    const starting = this.#starting;
    if (starting === undefined) return undefined;
    const outcome = await this.#bounded(() => starting, this.#share(deadline));
    return outcome.kind === 'timeout' ? this.#options.units[this.#started.length]?.name : undefined;
  }

  /** Time for one stop: what is left, less the reserve of those that come after. At least something, however late it is. */
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
      // An async wrapper, so that a stop() that throws at once counts as a failure too.
      void (async () => task())().then(
        () => settle({ kind: 'done' }),
        (error: unknown) => settle({ kind: 'failed', error }),
      );
    });
  }

  #tell(unit: Unit, did: 'started' | 'stopped' | 'stop failed' | 'stop timed out', began: number): void {
    this.#options.onEvent?.({ unit: unit.name, did, ms: this.#options.clock.now() - began });
  }
}
