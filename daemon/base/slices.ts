// SPDX-License-Identifier: Apache-2.0
// Work that grows with the number of objects, done in slices of a few milliseconds. Between two slices the event loop answers probes and
// applies other changes. The work is a generator, and each `yield` is a place at which it may pause. It must never run two slices of one
// piece of work at the same time, and never begin a slice after stop().
import { systemClock } from './clock.ts';

/**
 * The value of a `yield` is true if a new slice begins there. A step must take much less time than a slice. `yield 'pause'` ends the
 * slice, because nothing can be done at present.
 */
export type Steps<Result = void> = Generator<'pause' | undefined, Result, boolean>;

/** Milliseconds of a slice. A probe needs a few rounds of the event loop, and several kinds of work may have one slice in each round. */
export const SLICE_MS = 3;

/** When work pauses, and when it goes on. */
export interface Pace {
  /** Runs the task in a later round of the event loop. */
  readonly schedule: (task: () => void) => void;
  /** Begins a slice. The result returns true when the time of the slice is over. */
  readonly begin: () => () => boolean;
}

/** Returns true when the time is over. */
export function timeSlice(ms: number = SLICE_MS): () => boolean {
  const end = systemClock.now() + ms;
  return () => systemClock.now() >= end;
}

/** The pace of all work that shares an instance: it takes turns, and one slice runs per round of the event loop. */
export class Turns implements Pace {
  readonly #waiting: (() => void)[] = [];
  #isScheduled = false;

  readonly begin = (): (() => boolean) => timeSlice();

  readonly schedule = (task: () => void): void => {
    this.#waiting.push(task);
    this.#scheduleNext();
  };

  #scheduleNext(): void {
    if (this.#isScheduled || this.#waiting.length === 0) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      const task = this.#waiting.shift();
      this.#scheduleNext();
      task?.();
    });
  }
}

/** Does all steps now. */
export function finish<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const step = steps.next(false);
    if (step.done === true) return step.value;
  }
}

/** Does the work of one asynchronous task in slices. A slice may contain several pieces of work. */
export class Pacer {
  readonly #pace: Pace;
  readonly #onResume: () => void;
  #isOver: () => boolean;

  /** `onResume` is called after each pause. What it throws ends the work. */
  constructor(pace: Pace, onResume: () => void) {
    this.#pace = pace;
    this.#onResume = onResume;
    this.#isOver = pace.begin();
  }

  /** Begins a slice now: the caller has just waited for something else. */
  begin(): void {
    this.#isOver = this.#pace.begin();
  }

  /** Rejects with what a step throws. */
  async run<Result>(steps: Steps<Result>): Promise<Result> {
    try {
      for (let isNew = false; ;) {
        const step = steps.next(isNew);
        if (step.done === true) return step.value;
        isNew = step.value === 'pause' || this.#isOver();
        if (isNew) await this.#next();
      }
    } finally {
      // If the work was ended during a pause, the steps close what they have open.
      steps.return(undefined as Result);
    }
  }

  /** Pauses if the time of the slice is over. */
  async pause(): Promise<void> {
    if (this.#isOver()) await this.#next();
  }

  async #next(): Promise<void> {
    await new Promise<void>((resolve) => this.#pace.schedule(resolve));
    this.#onResume();
    this.begin();
  }
}

export interface SlicedLoopOptions {
  /** Begins the work, which handles everything that has changed. */
  readonly begin: () => Steps;
  /** Default: the work never pauses. */
  readonly pace?: Pace | undefined;
}

/** Work that is done each time something has changed. The first slice runs at once, so a single change is handled without delay. */
export class SlicedLoop {
  readonly #options: SlicedLoopOptions;
  readonly #idleCallbacks = new Set<() => void>();
  #steps: Steps | undefined;
  #isWoken = false;
  #isBusy = false;
  #isStopped = false;

  constructor(options: SlicedLoopOptions) {
    this.#options = options;
  }

  /** A change was noticed, and its work is not finished. */
  get isBusy(): boolean {
    return this.#isBusy;
  }

  /** Calls back each time the loop has finished its work. Returns the function that unsubscribes. */
  onIdle(callback: () => void): () => void {
    this.#idleCallbacks.add(callback);
    return () => this.#idleCallbacks.delete(callback);
  }

  /** Begins the work. If the loop is at work, it begins again afterwards. */
  wake(): void {
    this.#isWoken = true;
    if (!this.#isBusy) this.#slice();
  }

  /** No step is done after this returns. */
  stop(): void {
    this.#isStopped = true;
  }

  #slice(): void {
    if (this.#isStopped) return;
    this.#isBusy = true;
    const { begin, pace } = this.#options;
    const isOver = pace?.begin() ?? never;
    let mustPause = false;
    for (let isNew = true; this.#isWoken || this.#steps !== undefined; isNew = false) {
      if (pace !== undefined && !isNew && (mustPause || isOver())) return pace.schedule(() => this.#slice());
      if (this.#steps === undefined) {
        this.#isWoken = false;
        this.#steps = begin();
      }
      const step = this.#steps.next(isNew);
      mustPause = step.value === 'pause';
      if (step.done === true) this.#steps = undefined;
    }
    this.#isBusy = false;
    for (const callback of this.#idleCallbacks) callback();
  }
}

const never = (): boolean => false;
