// SPDX-License-Identifier: Apache-2.0
// Observes the desired tables and their reconcilers, and reports to SyncHealth and the metrics: a family is queued when one of
// its desired rows changes, and synced when the reconciler has tried every change and no row of the family fails. It must not
// change a table or delay a reconciler. Built by health.ts; the agent names the tables and reconcilers.
import type { Clock } from '../../base/clock.ts';
import { isNoSpace } from '../../base/errors.ts';
import { families, type Family } from '../../model/address.ts';
import type { Observer, Scheduler, TableView } from '../../table/table.ts';
import { ChangeTimes, type TimedSlice } from './change-times.ts';
import type { ChangeCounts, SyncDone } from './kubeproxy-metrics.ts';
import type { SyncHealth } from './sync-health.ts';

/** The part of a Reconciler that is used here. */
export interface SyncLoop {
  /** Clock time at which the current work began. If the loop is idle, the time at which its last work began. */
  readonly busySince: number;
  /** Resolves when every change up to this revision of the table has been tried. */
  settled(revision: number): Promise<void>;
  /** Resolves when every row, and the first prune if it is allowed, has been tried once. */
  readonly firstDone: Promise<void>;
  failed(): Iterable<readonly [string, { readonly error?: Error }]>;
  /** The callback is called after every turn of the loop. */
  onStatus(callback: () => void): () => void;
}

/** A table of desired rows and the loop that applies it. */
export interface SyncedTable {
  readonly table: TableView<string, unknown>;
  readonly loop: SyncLoop;
  /** Returns the IP families of the row with this key. */
  readonly familiesOf: (key: string) => readonly Family[];
}

/** The part of a SlicedLoop that is used here. */
export interface Computation {
  /** A change was noticed, and its work is not finished. */
  readonly isBusy: boolean;
  /** The callback is called each time the work is finished. */
  onIdle(callback: () => void): () => void;
}

/** Changes that are taken from a table in one turn of the event loop: 1 ms. */
const TAKEN_CHANGES = 1000;

export interface SyncFeedOptions {
  readonly services: TableView<string, unknown>;
  readonly slices: TableView<string, TimedSlice>;
  /** The tables and their loops. */
  readonly synced: readonly SyncedTable[];
  readonly health: SyncHealth;
  readonly metrics: { synced(done: SyncDone): void; programmed(family: Family, seconds: number): void };
  /** The work that computes the tables, as far as it pauses: a change that it has not finished is not applied. */
  readonly computations?: readonly Computation[];
  readonly clock: Clock;
  /** setImmediate in the daemon, so that tasks run after the controllers. */
  readonly schedule: Scheduler;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
}

interface Watched extends SyncedTable {
  readonly observer: Observer<string, unknown>;
  /** The last revision of the table up to which every change has been tried. */
  seen: number;
  isFirstDone: boolean;
}

export class SyncFeed {
  readonly #options: Required<SyncFeedOptions>;
  readonly #times: ChangeTimes;
  readonly #services = new Set<string>();
  readonly #slices = new Set<string>();
  /** Clock time at which the current sync of a family began. */
  readonly #began = new Map<Family, number>();
  /** Families with a change that is not applied: it has not been tried yet, or it failed. */
  readonly #waiting = new Set<Family>(families);
  #watched: Watched[] = [];
  #undo: (() => void)[] = [];
  #isFull = true;
  #lastSynced = 0;

  constructor(options: SyncFeedOptions) {
    this.#options = { wallNow: Date.now, computations: [], ...options };
    this.#times = new ChangeTimes(this.#options.wallNow());
  }

  start(): void {
    const { services, slices, synced, computations, clock } = this.#options;
    for (const family of families) this.#began.set(family, clock.now());
    this.#follow(services, (changes) => this.#note(this.#services, changes));
    this.#follow(slices, (changes) => {
      for (const { key, row } of changes) this.#times.changed(key, row);
      this.#note(this.#slices, changes);
    });
    this.#undo.push(...computations.map((each) => each.onIdle(() => this.#endSync())));
    this.#watched = synced.map((each) => ({ ...each, observer: each.table.observe(), seen: 0, isFirstDone: false }));
    for (const each of this.#watched) {
      this.#undo.push(
        () => each.observer.close(),
        each.table.onChange(() => this.#queue(each)),
        each.loop.onStatus(() => this.#endSync()),
      );
      void each.loop.firstDone.then(() => {
        each.isFirstDone = true;
        this.#endSync();
      });
      this.#queue(each);
    }
  }

  stop(): void {
    for (const undo of this.#undo.splice(0)) undo();
    this.#watched = [];
  }

  /** Number of changes since the start, and number of changed objects that are not yet applied. */
  changes(): { readonly services: ChangeCounts; readonly slices: ChangeCounts } {
    const { services, slices } = this.#options;
    return {
      services: { total: services.revision, pending: this.#services.size },
      slices: { total: slices.revision, pending: this.#slices.size },
    };
  }

  #follow<Row>(table: TableView<string, Row>, onChanges: (changes: ReturnType<Observer<string, Row>['take']>) => void): void {
    const observer = table.observe();
    const take = (): void => {
      const changes = observer.take(TAKEN_CHANGES);
      onChanges(changes);
      if (changes.length === TAKEN_CHANGES) this.#options.schedule(take);
    };
    this.#undo.push(() => observer.close(), table.onChange(take));
    take();
  }

  /**
   * Records changed objects. The scheduled check runs after the controllers: if they changed no desired row, no sync follows, and
   * the check counts the objects as applied.
   */
  #note(pending: Set<string>, changes: readonly { readonly key: string }[]): void {
    for (const { key } of changes) pending.add(key);
    this.#options.schedule(() => this.#endSync());
  }

  /**
   * Records changed rows as queued. The loop is notified before this feed and may already have applied the rows, so the sync
   * began when the loop began its work.
   */
  #queue(each: Watched): void {
    const began = Math.max(each.loop.busySince, this.#lastSynced);
    for (const family of new Set(each.observer.take().flatMap(({ key }) => each.familiesOf(key)))) {
      this.#options.health.queued(family, began);
      this.#waiting.add(family);
      if (!this.#began.has(family)) this.#began.set(family, began);
    }
    const { revision } = each.table;
    void each.loop.settled(revision).then(() => {
      each.seen = Math.max(each.seen, revision);
      this.#endSync();
    });
  }

  /** Ends the current sync if every change has been computed and tried. */
  #endSync(): void {
    if (this.#options.computations.some(({ isBusy }) => isBusy)) return;
    if (this.#watched.length === 0 || !this.#watched.every(({ seen, table, isFirstDone }) => isFirstDone && seen === table.revision))
      return;
    const { clock, health, metrics } = this.#options;
    const now = clock.now();
    for (const [family, began] of this.#began) metrics.synced({ family, seconds: (now - began) / 1000, isFull: this.#isFull });
    this.#began.clear();
    this.#lastSynced = now;
    this.#isFull = false;
    this.#services.clear();
    this.#slices.clear();
    if (this.#waiting.size > 0) {
      for (const family of this.#waiting.difference(this.#failing())) {
        this.#waiting.delete(family);
        health.synced(family, now);
        for (const seconds of this.#times.take(family, this.#options.wallNow())) metrics.programmed(family, seconds);
      }
    }
    for (const family of families) if (!this.#waiting.has(family)) this.#times.forget(family);
  }

  /**
   * Families with a row that cannot be applied. A row that fails because a map is full does not count. Such a failure affects only
   * one Service and is reported for that Service; it must not make every load balancer remove the node.
   */
  #failing(): Set<Family> {
    const failing = new Set<Family>();
    for (const { loop, familiesOf } of this.#watched) {
      for (const [key, { error }] of loop.failed()) if (!lacksSpace(error)) for (const family of familiesOf(key)) failing.add(family);
    }
    return failing;
  }
}

/** Families of the DesiredPort with this key. */
export const familiesOfPort = (key: string): readonly Family[] => [key.endsWith('/IPv6') ? 'IPv6' : 'IPv4'];

const lacksSpace = (error: unknown): boolean =>
  error instanceof AggregateError ? error.errors.every((each) => isNoSpace(each)) : isNoSpace(error);
