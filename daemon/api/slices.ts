// SPDX-License-Identifier: Apache-2.0
// Does long work in slices of a few milliseconds. All API calls share one queue, and one slice runs per round of the event loop, so that
// the reconcile loops, health checks and other calls are served between two slices. It must never keep the result for a caller that has
// disconnected.
import { setTimeout as sleep } from 'node:timers/promises';

import { Turns } from '../base/slices.ts';
import { restPerWork, sliceMs } from './limits.ts';

/** Work as a sequence of rows. An undefined element is only a place to pause; the work between two elements must be short. */
export type Steps<Row> = Iterable<Row | undefined>;

/** The work was abandoned, because no caller waits for its result any more. */
export class AbandonedError extends Error {
  constructor() {
    super('nobody waits for this work any more');
    this.name = 'AbandonedError';
  }
}

export class Slices {
  readonly #turns = new Turns();

  /**
   * Collects the rows of the work. Rejects with AbandonedError at the next slice after `isWanted` returns false, and with every error that
   * the work throws.
   */
  async collect<Row>(steps: Steps<Row>, isWanted: () => boolean): Promise<{ readonly rows: Row[]; readonly busyMs: number }> {
    const rows: Row[] = [];
    const iterator: Iterator<Row | undefined, unknown> = steps[Symbol.iterator]();
    let busyMs = 0;
    for (let isDone = false; !isDone;) {
      await this.turn();
      if (!isWanted()) {
        iterator.return?.();
        throw new AbandonedError();
      }
      const began = performance.now();
      for (let elapsed = 0; !isDone && elapsed < sliceMs; elapsed = performance.now() - began) {
        const step = iterator.next();
        if (step.done === true) isDone = true;
        else if (step.value !== undefined) rows.push(step.value);
      }
      busyMs += performance.now() - began;
    }
    return { rows, busyMs };
  }

  /** Resolves in a round of the event loop in which no other slice runs. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.#turns.schedule(resolve));
  }
}

interface Round<Row> {
  readonly result: PromiseWithResolvers<readonly Row[]>;
  /** Number of callers that wait for the result. */
  wanting: number;
}

/**
 * Work whose result several callers can share. A round is one execution of the work. Each caller gets the result of a round that began
 * after the call, so the result is never older than the call. At most one round runs and one waits, however many callers there are.
 */
export class Shared<Row> {
  readonly #slices: Slices;
  readonly #steps: () => Steps<Row>;
  #next: Round<Row> | undefined;
  #isRunning = false;

  constructor(slices: Slices, steps: () => Steps<Row>) {
    this.#slices = slices;
    this.#steps = steps;
  }

  /** Rejects with AbandonedError when the signal aborts, and with every error that the work throws. */
  get(signal: AbortSignal): Promise<readonly Row[]> {
    if (signal.aborted) return Promise.reject(new AbandonedError());
    const round = (this.#next ??= newRound());
    round.wanting += 1;
    if (!this.#isRunning) void this.#run();
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        round.wanting -= 1;
        reject(new AbandonedError());
      };
      signal.addEventListener('abort', leave, { once: true });
      const stay = (): void => signal.removeEventListener('abort', leave);
      void round.result.promise.then(resolve, reject).finally(stay);
    });
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    for (let round = this.#next; round !== undefined; round = this.#next) {
      const busyMs = await this.#runRound(round);
      if (busyMs > 0) await sleep(busyMs * restPerWork);
    }
    this.#isRunning = false;
  }

  /** Never rejects. */
  async #runRound(round: Round<Row>): Promise<number> {
    const isWanted = (): boolean => round.wanting > 0;
    const steps = this.#begin(round);
    const began = performance.now();
    try {
      const { rows, busyMs } = await this.#slices.collect(steps, isWanted);
      round.result.resolve(rows);
      return busyMs;
    } catch (error) {
      if (this.#next === round) this.#next = undefined;
      round.result.reject(error);
      return Math.min(performance.now() - began, sliceMs);
    }
  }

  /** Callers can join the round until its first step. */
  *#begin(round: Round<Row>): Generator<Row | undefined, void> {
    if (this.#next === round) this.#next = undefined;
    yield* this.#steps();
  }
}

function newRound<Row>(): Round<Row> {
  const result = Promise.withResolvers<readonly Row[]>();
  // When all callers have left a round, no code handles its rejection, so it is handled here.
  result.promise.catch(() => undefined);
  return { result, wanting: 0 };
}
