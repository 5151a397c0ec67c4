// SPDX-License-Identifier: Apache-2.0
// Which devices routes lead through, as a table: read at start and after netlink events. A node may have a million routes, which change all
// the time. So only three facts per device are kept, a new route is taken from its event, and all routes are read again only after routes
// were removed or replaced: in slices, with a pause that grows with the time that reading takes. After the start, no failure leaves this
// class as an exception: the table keeps its rows, and problems() reports the failure. Writes only this table.
import type { Logger } from 'pino';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { type Pace, Pacer } from '../../base/slices.ts';
import type { StatusPart } from '../../base/status-part.ts';
import { dumpNextHops, type NextHop, RouteMonitor } from '../../kernel/device-routes.ts';
import type { DeviceRoutes } from '../../model/device.ts';
import type { Table } from '../../table/table.ts';

/** Shortest pause in ms between two readings, so that many changes together cause one. */
const LEAST_PAUSE_MS = 1000;
/** The pause is at least this many times as long as the last reading, so that reading takes at most 5 % of the time. */
const PAUSE_FACTOR = 20;
/** Delays in ms after failures in a row. */
const retryDelays = { firstMs: LEAST_PAUSE_MS, mostMs: 30_000 };

export interface RoutesOptions {
  readonly clock: Clock;
  readonly log: Pick<Logger, 'error' | 'info'>;
  /** When a reading pauses. */
  readonly pace: Pace;
}

export class Routes implements StatusPart {
  readonly #table: Table<number, DeviceRoutes>;
  readonly #options: RoutesOptions;
  readonly #markInitialized: () => void;
  #monitor: RouteMonitor | undefined;
  /** What the reading that is in progress has found. */
  #found: Map<number, DeviceRoutes> | undefined;
  /** True if something changed that only a new reading shows. */
  #isStale = false;
  /** Clock time before which no reading begins. */
  #earliest = 0;
  #cancelTimer: (() => void) | undefined;
  #failures = 0;
  #problem: string | undefined;
  #isStopped = false;

  constructor(table: Table<number, DeviceRoutes>, options: RoutesOptions) {
    this.#table = table;
    this.#options = options;
    this.#markInitialized = table.registerSource('netlink');
  }

  /** Resolves when the table is complete. Rejects with KernelError when the routes cannot be read. */
  async start(): Promise<void> {
    try {
      await this.#read();
    } catch (error) {
      this.stop();
      throw error;
    }
    this.#markInitialized();
    this.#next();
  }

  /** The rows stay as they are. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  problems(): string[] {
    return this.#problem === undefined ? [] : [this.#problem];
  }

  /** The monitor is opened before the routes are read, so that a change meanwhile is not missed. */
  #openMonitor(): void {
    if (this.#monitor !== undefined) return;
    const monitor = new RouteMonitor();
    monitor.listen({
      onHop: (hop) => this.#add(hop),
      onDown: (ifindex) => this.#remove(ifindex),
      onStale: () => this.#wake(),
      onLost: (reason) => {
        monitor.close();
        this.#monitor = undefined;
        this.#options.log.info({ err: reason }, 'events about the routes were lost; the agent reads the routes again');
        this.#wake();
      },
    });
    this.#monitor = monitor;
  }

  #wake(): void {
    this.#isStale = true;
    this.#next();
  }

  /** Plans the next reading, if one is needed and none is planned or in progress. */
  #next(): void {
    const isBusy = this.#found !== undefined || this.#cancelTimer !== undefined;
    if (!this.#isStale || isBusy || this.#isStopped) return;
    const { clock } = this.#options;
    this.#cancelTimer = clock.setTimer(Math.max(0, this.#earliest - clock.now()), () => {
      this.#cancelTimer = undefined;
      void this.#readAgain();
    });
  }

  async #readAgain(): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await this.#read();
      if (this.#problem !== undefined) log.info('the routes of this node can be read again');
      this.#problem = undefined;
      this.#failures = 0;
    } catch (error) {
      if (this.#isStopped) return;
      const isNew = this.#problem === undefined;
      this.#problem = `the routes of this node cannot be read, will be retried: ${messageOf(error)}`;
      if (isNew) log.error({ err: error }, 'the routes of this node cannot be read, will be retried');
      this.#failures += 1;
      this.#isStale = true;
      this.#earliest = clock.now() + doubledMs(this.#failures, retryDelays);
    }
    this.#next();
  }

  /** Reads all routes in slices, and then writes the differences. */
  async #read(): Promise<void> {
    const { clock, pace } = this.#options;
    this.#openMonitor();
    this.#isStale = false;
    const found = new Map<number, DeviceRoutes>();
    this.#found = found;
    const began = clock.now();
    const steps = dumpNextHops((hop) => addHop(found, hop));
    try {
      await new Pacer(pace, () => {
        if (this.#isStopped) throw new Error('stopped');
      }).run(steps);
    } finally {
      // Closes the socket of a reading that was not finished.
      steps.return();
      this.#found = undefined;
      this.#earliest = clock.now() + Math.max(LEAST_PAUSE_MS, PAUSE_FACTOR * (clock.now() - began));
    }
    for (const [ifindex] of [...this.#table.all()]) if (!found.has(ifindex)) this.#table.delete(ifindex);
    for (const row of found.values()) this.#put(row);
  }

  #add(hop: NextHop): void {
    if (this.#found !== undefined) addHop(this.#found, hop);
    const row = merged(this.#table.get(hop.ifindex), hop);
    if (row !== undefined) this.#table.upsert(hop.ifindex, row);
  }

  /** Routes of a device that is down or gone are removed, some of them without an event. */
  #remove(ifindex: number): void {
    this.#found?.delete(ifindex);
    this.#table.delete(ifindex);
  }

  #put(row: DeviceRoutes): void {
    const before = this.#table.get(row.ifindex);
    if (routeFacts.some((fact) => before?.[fact] !== row[fact])) this.#table.upsert(row.ifindex, row);
  }
}

const routeFacts = ['hasGateway', 'hasDefault', 'isMultipath'] as const;

/** The row with the next hop, or undefined if the next hop adds nothing. */
function merged(before: DeviceRoutes | undefined, { ifindex, hasGateway, isDefault, isMultipath }: NextHop): DeviceRoutes | undefined {
  const row = {
    ...{ ifindex, hasGateway: hasGateway || before?.hasGateway === true },
    ...{ hasDefault: isDefault || before?.hasDefault === true, isMultipath: isMultipath || before?.isMultipath === true },
  };
  return before !== undefined && routeFacts.every((fact) => before[fact] === row[fact]) ? undefined : row;
}

/** Adds what a next hop says about its device. */
export function addHop(found: Map<number, DeviceRoutes>, hop: NextHop): void {
  const row = merged(found.get(hop.ifindex), hop);
  if (row !== undefined) found.set(hop.ifindex, row);
}
