// SPDX-License-Identifier: Apache-2.0
// The loop that applies a table. A turn begins after a change, or when a retry or a prune is due. It takes a bounded number of
// changes in order of revision, updates or deletes each row, retries failed rows, and prunes when every source is complete. The
// time of a turn is bounded too. Kernel failures are handled here and are never reported to a source. The loop does not depend on maps.
import type { Clock } from '../base/clock.ts';
import { isNoSpace, KernelError } from '../base/errors.ts';
import { SLICE_MS } from '../base/slices.ts';
import type { Observer, Scheduler, TableView } from './table.ts';
import { Patrol } from './patrol.ts';
import { backOff, Retries } from './retries.ts';
import { type ReconcileLog, type RowStatus, type StatusCounts, Statuses } from './status.ts';

/** How rows are applied. Calls are idempotent and synchronous. After a KernelError, or an AggregateError of them, a call is retried. */
export interface Operations<K, Row> {
  /** Rebuilds the operations' memory from what is applied already. Runs before everything else, until it succeeds. Writes nothing. */
  restore(): void;
  update(row: Row): void;
  /** Deletes a row. Deleting a row that was never applied succeeds. */
  delete(key: K): void;
  /** Removes what no row wants. Returns true when nothing is left for a later prune. */
  prune(rows: TableView<K, Row>): boolean;
  /** Compares what is applied with the operations' memory and repairs the differences. Each step returns one message for each repair. */
  repair(): Iterator<readonly string[], void>;
  /** A counter that grows when space becomes free; rows that failed for lack of space are then retried at once. */
  freed(): number;
  /** Clock time at which space becomes free by itself. */
  freesAt(): number | undefined;
}

export interface ReconcilerOptions<K, Row> {
  readonly table: TableView<K, Row>;
  readonly operations: Operations<K, Row>;
  readonly clock: Clock;
  /** Runs a task after other pending work: setImmediate in the daemon. */
  readonly schedule: Scheduler;
  readonly log: ReconcileLog<K>;
  /** Whether every source is complete, so that what is not desired may be removed. Call requestPrune() when it becomes true. */
  readonly mayPrune?: () => boolean;
  /** Random number in [0, 1), for jitter. */
  readonly random?: () => number;
  /** Maximum number of rows in one turn of the event loop. A turn also ends when its time is over. */
  readonly batchSize?: number;
  /** How often everything that was applied is compared with the kernel. Default: never. */
  readonly repairEveryMs?: number;
}

/** Rows between two looks at the clock. One row of many endpoints can take as long as 64 others. */
const ROWS_PER_LOOK = 4;

interface Waiter {
  readonly isMet: () => boolean;
  readonly resolve: () => void;
}

export class Reconciler<K, Row> {
  readonly #table: TableView<K, Row>;
  readonly #operations: Operations<K, Row>;
  readonly #options: Required<ReconcilerOptions<K, Row>>;
  readonly #statuses: Statuses<K, Row>;
  readonly #retries = new Retries<K>();
  readonly #steps = { restore: { tries: 0, due: 0 }, prune: { tries: 0, due: 0 } };
  readonly #failing = new Map<string, { readonly error: Error; readonly retries: number }>();
  readonly #patrol: Patrol;
  readonly #statusCallbacks = new Set<() => void>();
  readonly #firstDone = Promise.withResolvers<void>();
  #waiters: Waiter[] = [];
  #observer: Observer<K, Row> | undefined;
  #unsubscribe: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  #isYielding = false;
  #isReady = false;
  #seen = 0;
  #freed = 0;
  #waitsSince = 0;

  constructor(options: ReconcilerOptions<K, Row>) {
    this.#table = options.table;
    this.#operations = options.operations;
    this.#options = { mayPrune: () => true, random: Math.random, batchSize: 64, repairEveryMs: Infinity, ...options };
    this.#patrol = new Patrol(() => options.operations.repair(), this.#options.repairEveryMs);
    this.#statuses = new Statuses(options.table);
  }

  /** Restores, applies the rows that exist, then follows the table. */
  start(): void {
    this.#waitsSince = this.#options.clock.now();
    this.#observer = this.#table.observe();
    this.#unsubscribe = this.#table.onChange(() => this.#wake());
    this.#round();
  }

  /** Nothing is applied after this returns; what was applied stays. */
  stop(): void {
    this.#unsubscribe?.();
    this.#cancelTimer?.();
    this.#observer?.close();
    this.#observer = undefined;
  }

  /** The status of the row with this key; undefined for a key that never existed, or whose deletion is done. */
  status(key: K): RowStatus | undefined {
    return this.#statuses.get(key, this.#waitsSince);
  }

  counts(): StatusCounts {
    return this.#statuses.counts();
  }

  /** The rows whose last attempt failed, including deletions. */
  failed(): IterableIterator<[K, RowStatus]> {
    return this.#statuses.failed();
  }

  /** The steps whose last attempt failed: "restore", "prune" or "repair". */
  failedSteps(): { readonly step: string; readonly error: Error; readonly retries: number }[] {
    return [...this.#failing].map(([step, failure]) => ({ step, ...failure }));
  }

  /** Summary such as "OK, 3 rows" or "Degraded, 1 of 3 rows failed". */
  get health(): string {
    const { errors } = this.#statuses;
    return errors === 0 ? `OK, ${this.#table.size} rows` : `Degraded, ${errors} of ${this.#table.size} rows failed`;
  }

  /**
   * True when every row of the initialized table has been tried once, successfully or not. If mayPrune() allows the first prune, it has
   * been tried too.
   */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Resolves when isReady becomes true. */
  get firstDone(): Promise<void> {
    return this.#firstDone.promise;
  }

  /** Clock time at which the current work began. When the loop is idle, the time at which its last work began. */
  get busySince(): number {
    return this.#waitsSince;
  }

  /** Number of changes that the next turns will try, at most. 0 when no turn is scheduled. */
  get behind(): number {
    return this.#isYielding ? this.#table.revision - this.#seen : 0;
  }

  /** True if nothing failed, nothing waits, and nothing is left to prune. */
  get isClean(): boolean {
    return this.#isDrained && this.#retries.size === 0 && this.#steps.restore.due === Infinity && this.#steps.prune.due === Infinity;
  }

  /** Resolves when every change up to that revision has been tried, successfully or not. */
  settled(revision: number = this.#table.revision): Promise<void> {
    return this.#when(() => this.#seen >= revision);
  }

  /** Resolves when the loop has nothing to do until a timer ends or a row changes. */
  idle(): Promise<void> {
    return this.#when(() => this.#isDrained && !this.#isYielding);
  }

  /**
   * Resolves when the row with this key, or its deletion, has been applied. Rejects with the error of the attempt when the
   * attempt failed; the loop retries the row nevertheless. Rejects with the signal's reason when the signal aborts first.
   * `revision` is the table's revision after the caller's write.
   */
  async applied(key: K, revision: number, signal: AbortSignal): Promise<void> {
    await this.#when(() => this.#seen >= revision, signal);
    const status = this.#statuses.last(key)?.status;
    if (status?.kind === 'error') throw status.error ?? new Error(`${String(key)} was not applied`);
  }

  /** Prunes in the next turn, if the table is initialized and mayPrune() allows it, and again until nothing is left. */
  requestPrune(): void {
    this.#steps.prune.due = 0;
    this.#wake();
  }

  /** Tries failed rows and a failed restore now. Their back-off is not reset. */
  retryFailed(): void {
    const { clock } = this.#options;
    if (this.#retries.size === 0 && !this.#failing.has('restore')) return;
    this.#retries.retryNow(clock.now(), () => true);
    if (this.#failing.has('restore')) this.#steps.restore.due = clock.now();
    this.#wake();
  }

  /** Calls back after every turn. Returns the function that unsubscribes. */
  onStatus(callback: () => void): () => void {
    this.#statusCallbacks.add(callback);
    return () => this.#statusCallbacks.delete(callback);
  }

  get #isDrained(): boolean {
    return this.#seen === this.#table.revision;
  }

  #when(isMet: () => boolean, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    if (isMet()) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { isMet, resolve };
    const onAbort = (): void => {
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
      reject(signal?.reason as Error);
    };
    this.#waiters.push(waiter);
    signal?.addEventListener('abort', onAbort, { once: true });
    return promise.finally(() => signal?.removeEventListener('abort', onAbort));
  }

  /** Runs a turn at once when the loop is idle. Under load, the turn that is already scheduled includes the change. */
  #wake(): void {
    if (this.#isYielding) return;
    if (this.#steps.restore.due === Infinity) this.#waitsSince = this.#options.clock.now();
    this.#round();
  }

  #round(): void {
    const observer = this.#observer;
    if (observer === undefined) return;
    this.#cancelTimer?.();
    const isRestored = this.#isStepDone('restore', () => {
      this.#operations.restore();
      return true;
    });
    if (isRestored && this.#work(observer)) {
      this.#isYielding = true;
      this.#options.schedule(() => {
        this.#isYielding = false;
        this.#round();
      });
    } else this.#sleep();
    for (const callback of this.#statusCallbacks) callback();
    if (this.#waiters.length === 0) return;
    const { met = [], waiting = [] } = Object.groupBy(this.#waiters, (waiter) => (waiter.isMet() ? 'met' : 'waiting'));
    this.#waiters = waiting;
    for (const waiter of met) waiter.resolve();
  }

  /** One turn. Returns true when the next turn must follow at once. */
  #work(observer: Observer<K, Row>): boolean {
    const { batchSize, clock } = this.#options;
    this.#applyChanges(observer);
    for (const key of this.#retries.due(clock.now(), batchSize)) this.#try(key);
    if (this.#isDrained && this.#table.initialized) {
      if (this.#options.mayPrune()) this.#isStepDone('prune', () => this.#operations.prune(this.#table));
      if (!this.#isReady) this.#patrol.schedule(clock.now());
      this.#isReady = true;
      this.#firstDone.resolve();
    }
    this.#retryAfterSpaceFreed();
    if (this.#isDrained) this.#repair();
    return !this.#isDrained || Math.min(this.#retries.nextDue, this.#patrol.due) <= clock.now();
  }

  /** Tries changed rows until the batch is full, the time of the turn is over, or nothing is left. */
  #applyChanges(observer: Observer<K, Row>): void {
    const { batchSize, clock } = this.#options;
    const end = clock.now() + SLICE_MS;
    for (let left = batchSize; left > 0 && clock.now() <= end;) {
      const wanted = Math.min(left, ROWS_PER_LOOK);
      const changes = observer.take(wanted);
      for (const change of changes) this.#try(change.key);
      this.#seen = changes.length < wanted ? this.#table.revision : (changes.at(-1)?.revision ?? this.#table.revision);
      if (changes.length < wanted) return;
      left -= changes.length;
    }
  }

  /** Applies the row as it is now. Synchronous, so the result always belongs to the current row. */
  #try(key: K): void {
    const row = this.#table.get(key);
    const revision = this.#table.revisionOf(key);
    try {
      if (row === undefined) this.#operations.delete(key);
      else this.#operations.update(row);
    } catch (error) {
      this.#rowFailed(key, asRetriable(error), revision);
      return;
    }
    this.#retries.delete(key);
    const status: RowStatus = { kind: 'done', retries: 0, since: this.#options.clock.now() };
    const before = row === undefined ? this.#statuses.delete(key) : this.#statuses.set(key, status, revision);
    if (before?.kind === 'error') this.#options.log.rowRecovered(key, before.retries);
  }

  #rowFailed(key: K, error: Error, revision: number): void {
    const { clock, random, log } = this.#options;
    const last = this.#statuses.last(key);
    // The first failure of a changed row starts a new count.
    const retries = last?.status.kind === 'error' && last.revision === revision ? last.status.retries + 1 : 1;
    const before = this.#statuses.set(key, { kind: 'error', error, retries, since: clock.now() }, revision);
    this.#retries.set(key, clock.now() + backOff(retries, random));
    if (before?.kind !== 'error') log.rowFailed(key, error);
  }

  /** Runs a step if it is due. Returns false when it failed or left something to do; the next attempt is then scheduled. */
  #isStepDone(name: 'restore' | 'prune', run: () => boolean): boolean {
    const { clock, random } = this.#options;
    const step = this.#steps[name];
    if (step.due > clock.now()) return step.due === Infinity;
    let isDone = false;
    let failure: Error | undefined;
    try {
      isDone = run();
    } catch (error) {
      failure = asRetriable(error);
    }
    this.#tell(name, failure);
    step.tries = isDone ? 0 : step.tries + 1;
    step.due = isDone ? Infinity : clock.now() + backOff(step.tries, random);
    return isDone;
  }

  /** Logs the first failure of a step, and its recovery. */
  #tell(step: string, failure: Error | undefined): void {
    const { log } = this.#options;
    if (failure === undefined) {
      if (this.#failing.delete(step)) log.stepRecovered(step);
      return;
    }
    const before = this.#failing.get(step);
    if (before === undefined) log.stepFailed(step, failure);
    this.#failing.set(step, { error: failure, retries: (before?.retries ?? 0) + 1 });
  }

  /** Runs some steps of the periodic comparison with the kernel, if they are due. */
  #repair(): void {
    const { batchSize, clock, log } = this.#options;
    if (this.#patrol.due > clock.now()) return;
    const end = clock.now() + SLICE_MS;
    const repaired: string[] = [];
    try {
      this.#patrol.take({ now: clock.now(), limit: batchSize, isOver: () => clock.now() > end }, repaired);
      this.#tell('repair', undefined);
    } catch (error) {
      this.#tell('repair', asRetriable(error));
      this.#patrol.schedule(clock.now());
    }
    for (const message of repaired) log.repaired(message);
    // The comparison may have found entries that no row wants. Prune removes them.
    if (repaired.length > 0) this.#steps.prune.due = 0;
  }

  #retryAfterSpaceFreed(): void {
    if (this.#retries.size === 0) return;
    const freed = this.#operations.freed();
    if (freed === this.#freed) return;
    this.#freed = freed;
    this.#retries.retryNow(this.#options.clock.now(), (key) => isNoSpace(this.#statuses.last(key)?.status.error));
  }

  #sleep(): void {
    const { clock } = this.#options;
    const { restore, prune } = this.#steps;
    const mayPrune = this.#isReady && this.#options.mayPrune();
    const due = [this.#retries.nextDue, this.#patrol.due, restore.due, mayPrune ? prune.due : Infinity];
    if (this.#retries.size > 0) due.push(this.#operations.freesAt() ?? Infinity);
    const next = Math.min(...due);
    if (next === Infinity) return;
    this.#cancelTimer = clock.setTimer(Math.max(0, next - clock.now()), () => this.#wake());
  }
}

/**
 * Returns the error if it is a KernelError or an AggregateError of KernelErrors. Any other error shows a bug in the daemon, so it
 * is thrown and ends the process. The DaemonSet restarts the process, and the datapath keeps forwarding.
 */
function asRetriable(error: unknown): Error {
  if (error instanceof KernelError) return error;
  if (error instanceof AggregateError && error.errors.every((each) => each instanceof KernelError)) return error;
  throw error;
}
