// SPDX-License-Identifier: Apache-2.0
// Table: immutable rows by key, with a revision counter. Each observer takes the changes that it has not seen. A deleted row is
// remembered until every observer has seen its deletion. Uses no clock and no I/O; the scheduler is an argument.

export interface Change<K, Row> {
  readonly key: K;
  /** The row; undefined if it was deleted. */
  readonly row: Row | undefined;
  readonly revision: number;
}

/** The read-only view of a table, for everyone except its writer. */
export interface TableView<K, Row> {
  readonly name: string;
  /** A counter that grows with every change and is never reused. */
  readonly revision: number;
  readonly size: number;
  get(key: K): Row | undefined;
  /** Revision of the row's last change; 0 when there is no such row. */
  revisionOf(key: K): number;
  all(): IterableIterator<[K, Row]>;
  /** True once every registered source has finished its first list; false while no source is registered. */
  readonly initialized: boolean;
  /** A new observer; its first take() returns every row. */
  observe(): Observer<K, Row>;
  /** Calls back once per tick after changes, or when the table becomes initialized. Returns the function that unsubscribes. */
  onChange(callback: () => void): () => void;
}

export interface Observer<K, Row> {
  /** Up to `limit` unseen changes in order of revision; a row that changed several times appears once, as it is now. */
  take(limit?: number): Change<K, Row>[];
  close(): void;
}

export type Scheduler = (task: () => void) => void;

interface Entry<Row> {
  readonly row: Row | undefined;
  readonly revision: number;
}

export class Table<K, Row> implements TableView<K, Row> {
  readonly name: string;
  readonly #schedule: Scheduler;
  readonly #entries = new Map<K, Entry<Row>>();
  // Every change in order of revision. An item whose entry has a later revision is stale and skipped. The log is compacted when
  // most items are stale.
  #log: { key: K; revision: number }[] = [];
  #tombstones: { key: K; revision: number }[] = [];
  readonly #observers = new Set<{ seen: number }>();
  readonly #callbacks = new Set<() => void>();
  readonly #pendingSources = new Set<string>();
  #hasSources = false;
  #revision = 0;
  #size = 0;
  #isScheduled = false;

  constructor(name: string, schedule: Scheduler) {
    this.name = name;
    this.#schedule = schedule;
  }

  get revision(): number {
    return this.#revision;
  }

  get size(): number {
    return this.#size;
  }

  get initialized(): boolean {
    return this.#hasSources && this.#pendingSources.size === 0;
  }

  /** A source registers before it starts, and calls the returned function when its first list is in the table. Idempotent. */
  registerSource(source: string): () => void {
    this.#hasSources = true;
    this.#pendingSources.add(source);
    return () => {
      if (this.#pendingSources.delete(source)) this.#notify();
    };
  }

  upsert(key: K, row: Row): void {
    if (this.get(key) === undefined) this.#size += 1;
    this.#put(key, row);
  }

  /** Deleting an absent row does nothing. */
  delete(key: K): void {
    if (this.get(key) === undefined) return;
    this.#size -= 1;
    this.#put(key, undefined);
    this.#forgetSeenTombstones();
  }

  get(key: K): Row | undefined {
    return this.#entries.get(key)?.row;
  }

  revisionOf(key: K): number {
    return this.#entries.get(key)?.revision ?? 0;
  }

  *all(): IterableIterator<[K, Row]> {
    for (const [key, entry] of this.#entries) if (entry.row !== undefined) yield [key, entry.row];
  }

  observe(): Observer<K, Row> {
    const cursor = { seen: 0 };
    this.#observers.add(cursor);
    return {
      take: (limit = Infinity) => this.#take(cursor, limit),
      close: () => {
        this.#observers.delete(cursor);
        this.#forgetSeenTombstones();
      },
    };
  }

  onChange(callback: () => void): () => void {
    this.#callbacks.add(callback);
    return () => this.#callbacks.delete(callback);
  }

  #put(key: K, row: Row | undefined): void {
    const revision = ++this.#revision;
    this.#entries.set(key, { row, revision });
    this.#log.push({ key, revision });
    if (row === undefined) this.#tombstones.push({ key, revision });
    if (this.#log.length > 64 + 2 * this.#entries.size) this.#log = this.#log.filter((item) => this.#isCurrent(item));
    this.#notify();
  }

  #isCurrent(item: { key: K; revision: number }): boolean {
    return this.#entries.get(item.key)?.revision === item.revision;
  }

  #take(cursor: { seen: number }, limit: number): Change<K, Row>[] {
    if (cursor.seen === this.#revision) return [];
    const changes: Change<K, Row>[] = [];
    let at = this.#firstAfter(cursor.seen);
    for (; at < this.#log.length && changes.length < limit; at += 1) {
      const item = this.#log[at];
      if (item !== undefined && this.#isCurrent(item)) {
        changes.push({ key: item.key, row: this.#entries.get(item.key)?.row, revision: item.revision });
      }
    }
    cursor.seen = at === this.#log.length ? this.#revision : (changes.at(-1)?.revision ?? this.#revision);
    this.#forgetSeenTombstones();
    return changes;
  }

  /** Index of the first log item whose revision is greater than `revision` (binary search). */
  #firstAfter(revision: number): number {
    let low = 0;
    let high = this.#log.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#log[middle]?.revision ?? Infinity) > revision) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #forgetSeenTombstones(): void {
    if (this.#tombstones.length === 0) return;
    const seenByAll = Math.min(this.#revision, ...[...this.#observers].map((observer) => observer.seen));
    const kept = this.#tombstones.findIndex((item) => item.revision > seenByAll);
    const seen = this.#tombstones.splice(0, kept === -1 ? this.#tombstones.length : kept);
    for (const item of seen) if (this.#isCurrent(item)) this.#entries.delete(item.key);
  }

  #notify(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(() => {
      this.#isScheduled = false;
      for (const callback of this.#callbacks) callback();
    });
  }
}

/** The rows without their keys, read while the caller iterates. */
export function* rowsOf<Row>(table: TableView<unknown, Row>): IterableIterator<Row> {
  for (const [, row] of table.all()) yield row;
}
