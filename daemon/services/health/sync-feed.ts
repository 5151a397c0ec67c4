// SPDX-License-Identifier: Apache-2.0
// Watches the control walk from beside it and tells SyncHealth and the metrics what became of each change: queued when a
// desired row changes, synced when the loop behind has caught up and nothing of that family fails. It changes no table and
// holds up nobody. Built by agent.ts around whatever loops there are.
import type { Clock } from '../../base/clock.ts';
import { isNoSpace } from '../../base/errors.ts';
import { families, type Family } from '../../model/address.ts';
import type { Observer, Scheduler, TableView } from '../../table/table.ts';
import { ChangeTimes, type TimedSlice } from './change-times.ts';
import type { ChangeCounts, SyncDone } from './kubeproxy-metrics.ts';
import type { SyncHealth } from './sync-health.ts';

/** What it asks of a Reconciler. */
export interface SyncLoop {
  /** Clock time at which the work under way began; of an idle loop, the last. */
  readonly busySince: number;
  /** Resolves when every change up to that revision of its table has been tried. */
  settled(revision: number): Promise<void>;
  /** Resolves when everything has been tried once, and what may be pruned was. */
  readonly firstDone: Promise<void>;
  failed(): Iterable<readonly [string, { readonly error?: Error }]>;
  /** Calls back after every turn. */
  onStatus(callback: () => void): () => void;
}

/** A table of desired rows and the loop that realizes it. */
export interface SyncedTable {
  readonly table: TableView<string, unknown>;
  readonly loop: SyncLoop;
  /** Which families a row counts for, by its key. */
  readonly familiesOf: (key: string) => readonly Family[];
}

export interface SyncFeedOptions {
  readonly services: TableView<string, unknown>;
  readonly slices: TableView<string, TimedSlice>;
  /** Asked at start(): loops begin late. */
  readonly synced: () => readonly SyncedTable[];
  readonly health: SyncHealth;
  readonly metrics: { synced(done: SyncDone): void; programmed(family: Family, seconds: number): void };
  readonly clock: Clock;
  /** setImmediate: after the controller has had its turn. */
  readonly schedule: Scheduler;
  /** Date.now, except in tests. */
  readonly wallNow?: () => number;
}

interface Watched extends SyncedTable {
  readonly observer: Observer<string, unknown>;
  /** Everything up to here has been tried. */
  seen: number;
  isFirstDone: boolean;
}

export class SyncFeed {
  readonly #options: Required<SyncFeedOptions>;
  readonly #times: ChangeTimes;
  readonly #services = new Set<string>();
  readonly #slices = new Set<string>();
  /** Clock time at which the sync under way began. */
  readonly #began = new Map<Family, number>();
  /** Families with a change that has not come into effect, for want of a sync or by a failure. */
  readonly #waiting = new Set<Family>(families);
  #watched: Watched[] = [];
  #undo: (() => void)[] = [];
  #isFull = true;
  #lastSynced = 0;

  constructor(options: SyncFeedOptions) {
    this.#options = { wallNow: Date.now, ...options };
    this.#times = new ChangeTimes(this.#options.wallNow());
  }

  start(): void {
    const { services, slices, synced, clock } = this.#options;
    for (const family of families) this.#began.set(family, clock.now());
    this.#follow(services, (changes) => this.#note(this.#services, changes));
    this.#follow(slices, (changes) => {
      for (const { key, row } of changes) this.#times.changed(key, row);
      this.#note(this.#slices, changes);
    });
    this.#watched = synced().map((each) => ({ ...each, observer: each.table.observe(), seen: 0, isFirstDone: false }));
    for (const each of this.#watched) {
      this.#undo.push(
        () => each.observer.close(),
        each.table.onChange(() => this.#queue(each)),
        each.loop.onStatus(() => this.#look()),
      );
      void each.loop.firstDone.then(() => {
        each.isFirstDone = true;
        this.#look();
      });
      this.#queue(each);
    }
  }

  stop(): void {
    for (const undo of this.#undo.splice(0)) undo();
    this.#watched = [];
  }

  /** Seen since the start, and those not yet in effect. */
  changes(): { readonly services: ChangeCounts; readonly slices: ChangeCounts } {
    const { services, slices } = this.#options;
    return {
      services: { total: services.revision, pending: this.#services.size },
      slices: { total: slices.revision, pending: this.#slices.size },
    };
  }

  #follow<Row>(table: TableView<string, Row>, hear: (changes: ReturnType<Observer<string, Row>['take']>) => void): void {
    const observer = table.observe();
    const take = (): void => hear(observer.take());
    this.#undo.push(() => observer.close(), table.onChange(take));
    take();
  }

  /** A change of intent that is of no consequence causes no sync: once the controller has seen it, it is done with. */
  #note(pending: Set<string>, changes: readonly { readonly key: string }[]): void {
    for (const { key } of changes) pending.add(key);
    this.#options.schedule(() => this.#look());
  }

  /** The loop has heard of the change before us and may be done with it: the time is the loop's. */
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
      this.#look();
    });
  }

  /** Closes the sync under way if there is nothing left to try. */
  #look(): void {
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
      for (const family of this.#waiting.difference(this.#broken())) {
        this.#waiting.delete(family);
        health.synced(family, now);
        for (const seconds of this.#times.take(family, this.#options.wallNow())) metrics.programmed(family, seconds);
      }
    }
    for (const family of families) if (!this.#waiting.has(family)) this.#times.forget(family);
  }

  /**
   * Families of which a row cannot be applied. A row for which there is no room does not count: it is one Service's
   * trouble, shown as such, and no reason to take the node from every load balancer.
   */
  #broken(): Set<Family> {
    const broken = new Set<Family>();
    for (const { loop, familiesOf } of this.#watched) {
      for (const [key, { error }] of loop.failed()) if (!lacksSpace(error)) for (const family of familiesOf(key)) broken.add(family);
    }
    return broken;
  }
}

/** Of a DesiredPort, by its key. */
export const familiesOfPort = (key: string): readonly Family[] => [key.endsWith('/IPv6') ? 'IPv6' : 'IPv4'];

const lacksSpace = (error: unknown): boolean =>
  error instanceof AggregateError ? error.errors.every((each) => isNoSpace(each)) : isNoSpace(error);
