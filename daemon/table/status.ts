// SPDX-License-Identifier: Apache-2.0
// The outcome of the last attempt to apply each row: done or error, and the revision that was tried. It is stored beside the
// rows and never in them. A row whose revision is later than the tried one is pending. Written by the Reconciler, read by the
// status.
import type { TableView } from './table.ts';

export interface RowStatus {
  readonly kind: 'pending' | 'done' | 'error';
  /** The error of the last attempt; set only for the kind "error". */
  readonly error?: Error;
  /** Number of consecutive failed attempts. */
  readonly retries: number;
  /** Clock time at which the row got this kind. For pending: the time at which the oldest change began to wait. */
  readonly since: number;
}

export interface StatusCounts {
  readonly done: number;
  readonly pending: number;
  readonly error: number;
}

/** Logs the first failure and the recovery of each row or step, but not every attempt. `what` is "restore", "prune" or "repair". */
export interface ReconcileLog<K> {
  rowFailed(key: K, error: Error): void;
  rowRecovered(key: K, retries: number): void;
  stepFailed(what: string, error: Error): void;
  stepRecovered(what: string): void;
  /** Reports that another program had changed what was applied, and that the loop repaired it. */
  repaired(message: string): void;
}

/** The outcome of an attempt, and the revision of the row at that time. */
export interface Result {
  readonly status: RowStatus;
  readonly revision: number;
}

export class Statuses<K, Row> {
  readonly #table: TableView<K, Row>;
  readonly #results = new Map<K, Result>();
  /** Keys in error. They are stored separately because they are few and read after every change. */
  readonly #failed = new Set<K>();

  constructor(table: TableView<K, Row>) {
    this.#table = table;
  }

  get errors(): number {
    return this.#failed.size;
  }

  /**
   * The status of the row with this key; undefined for a key that never existed, or whose deletion is done. `waitsSince` is the `since` of
   * pending rows.
   */
  get(key: K, waitsSince: number): RowStatus | undefined {
    const result = this.#results.get(key);
    const isPending = this.#table.get(key) === undefined ? result?.status.kind === 'done' : this.#isBehind(key, result);
    return isPending ? { kind: 'pending', retries: result?.status.retries ?? 0, since: waitsSince } : result?.status;
  }

  counts(): StatusCounts {
    let [done, pending] = [0, 0];
    for (const [key] of this.#table.all()) {
      const result = this.#results.get(key);
      if (this.#isBehind(key, result)) pending += 1;
      else if (result?.status.kind === 'done') done += 1;
    }
    return { done, pending, error: this.#failed.size };
  }

  /** The rows whose last attempt failed, including deletions. */
  *failed(): IterableIterator<[K, RowStatus]> {
    for (const key of this.#failed) {
      const result = this.#results.get(key);
      if (result !== undefined) yield [key, result.status];
    }
  }

  /** Sets the status. Returns the previous status, if there was one. */
  set(key: K, status: RowStatus, revision: number): RowStatus | undefined {
    const before = this.#results.get(key)?.status;
    if (status.kind === 'error') this.#failed.add(key);
    else this.#failed.delete(key);
    this.#results.set(key, { status: before?.kind === status.kind ? { ...status, since: before.since } : status, revision });
    return before;
  }

  delete(key: K): RowStatus | undefined {
    const before = this.#results.get(key)?.status;
    this.#failed.delete(key);
    this.#results.delete(key);
    return before;
  }

  /** The outcome of the last attempt, even if the row has changed since then. */
  last(key: K): Result | undefined {
    return this.#results.get(key);
  }

  #isBehind(key: K, result: Result | undefined): boolean {
    return (result?.revision ?? 0) < this.#table.revisionOf(key);
  }
}
