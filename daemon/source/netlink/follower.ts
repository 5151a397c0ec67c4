// SPDX-License-Identifier: Apache-2.0
// Keeps a table equal to a list from the kernel: opens a monitor for events and reads the list, does both again when events were lost, and
// retries with back-off when the kernel refuses a list or a socket. After the start, no failure leaves this class as an exception: the
// table keeps its rows, and problems() reports the failure. Used by links.ts, local-addresses.ts and listed-table.ts.
import type { Logger } from 'pino';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { type KernelError, messageOf } from '../../base/errors.ts';
import type { StatusPart } from '../../base/status-part.ts';

export interface FollowerOptions {
  /** The subject of messages, such as "network devices". */
  readonly what: string;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly log: Pick<Logger, 'error' | 'info'>;
  /** Opens a monitor. The monitor calls `onLost` once, when it can report no more events. Throws KernelError. */
  readonly open: (onLost: (reason: KernelError) => void) => { close(): void };
  /** Writes what the kernel lists to the table. Throws KernelError, and then leaves the table as it is. */
  readonly list: () => void;
}

const retryDelays = { firstMs: 100, mostMs: 10_000 };
/**
 * Pause before the list is read after events were lost. Events are lost when they arrive faster than they are read. The pause limits the
 * number of lists while this lasts.
 */
const LOST_MS = 100;

export class Follower implements StatusPart {
  readonly #options: FollowerOptions;
  #monitor: { close(): void } | undefined;
  #cancelRetry: (() => void) | undefined;
  /** Failures in a row. */
  #failures = 0;
  #problem: string | undefined;
  #isRunning = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** Opens the monitor, then lists. Throws KernelError, and then leaves nothing open. */
  start(): void {
    try {
      this.#follow();
      this.#isRunning = true;
    } catch (error) {
      this.stop();
      throw error;
    }
  }

  /** The rows of the table stay as they are. */
  stop(): void {
    this.#isRunning = false;
    this.#cancelRetry?.();
    this.#close();
  }

  /** Lists again, and opens the monitor again if it is closed. Never throws. */
  resync(): void {
    if (!this.#isRunning) return;
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    try {
      this.#follow();
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (this.#problem !== undefined) this.#options.log.info(`the ${this.#options.what} of this node can be read again`);
    this.#failures = 0;
    this.#problem = undefined;
  }

  problems(): string[] {
    return this.#problem === undefined ? [] : [this.#problem];
  }

  #follow(): void {
    // The monitor is opened before the list is read: a change between the two calls is reported twice, but never missed.
    this.#monitor ??= this.#options.open((reason) => this.#lost(reason));
    this.#options.list();
  }

  #close(): void {
    this.#monitor?.close();
    this.#monitor = undefined;
  }

  #lost(reason: KernelError): void {
    this.#close();
    this.#options.log.info({ err: reason }, `events about the ${this.#options.what} were lost; the agent reads the list again`);
    this.#retryAfter(LOST_MS);
  }

  #fail(error: unknown): void {
    const { what, log } = this.#options;
    const isNew = this.#problem === undefined;
    this.#problem = `the ${what} of this node cannot be read, will be retried: ${messageOf(error)}`;
    if (isNew) log.error({ err: error }, `the ${what} of this node cannot be read, will be retried`);
    this.#failures += 1;
    this.#retryAfter(doubledMs(this.#failures, retryDelays));
  }

  #retryAfter(ms: number): void {
    this.#cancelRetry?.();
    this.#cancelRetry = this.#options.clock.setTimer(ms, () => this.resync());
  }
}
