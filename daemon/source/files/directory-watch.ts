// SPDX-License-Identifier: Apache-2.0
// Tells when something in a directory may have changed, by inotify. Watches the directory and every name on the way to it,
// so that a link that is turned elsewhere, or a directory that is removed and made again, is noticed and followed.
// Never reads a file. When the directory cannot be watched it tries again with back-off, and at once when the way changes.
import { lstatSync, readlinkSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { doubledMs } from '../../base/back-off.ts';
import { messageOf } from '../../base/errors.ts';

const retryDelays = { firstMs: 100, mostMs: 5000 };
const mostLinks = 40;

export interface DirectoryWatchOptions {
  readonly directory: string;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** The name that changed; undefined: anything may have. */
  readonly onEvent: (name: string | undefined) => void;
}

/** One name that decides where the path leads. */
interface Step {
  readonly directory: string;
  readonly name: string;
}

export class DirectoryWatch {
  readonly #options: DirectoryWatchOptions;
  #watchers: FSWatcher[] = [];
  #cancelRetry: (() => void) | undefined;
  /** Failures in a row. */
  #failures = 0;
  #isRunning = false;
  #problem: string | undefined;

  constructor(options: DirectoryWatchOptions) {
    this.#options = options;
  }

  /** Why the directory is not watched now. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Every start and restart ends with an event without a name. */
  start(): void {
    this.#isRunning = true;
    this.#open();
  }

  stop(): void {
    this.#isRunning = false;
    this.#close();
  }

  #open(): void {
    if (!this.#isRunning) return;
    this.#close();
    const { directory, onEvent } = this.#options;
    try {
      const before = wayTo(directory);
      for (const step of before) this.#watchStep(step);
      this.#add(directory, (type, name) => this.#take(type, name));
      // What changed while the watches were being set would never be told.
      if (JSON.stringify(wayTo(directory)) !== JSON.stringify(before)) throw new Error('it was replaced meanwhile');
      this.#problem = undefined;
      this.#failures = 0;
    } catch (error) {
      this.#fail(error);
    }
    onEvent(undefined);
  }

  #fail(error: unknown): void {
    this.#problem = messageOf(error);
    this.#cancelRetry?.();
    this.#failures += 1;
    this.#cancelRetry = this.#options.clock.setTimer(doubledMs(this.#failures, retryDelays), () => this.#open());
  }

  #close(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    for (const watcher of this.#watchers) watcher.close();
    this.#watchers = [];
  }

  #add(directory: string, listener: (type: string, name: string | null) => void): void {
    const watcher = watch(directory, listener);
    this.#watchers.push(watcher);
    watcher.on('error', (error) => {
      if (!this.#watchers.includes(watcher)) return;
      this.#fail(error);
      this.#options.onEvent(undefined);
    });
  }

  #watchStep({ directory, name }: Step): void {
    try {
      this.#add(directory, (type, changed) => {
        if (type === 'rename' && (changed === name || changed === null)) this.#open();
      });
    } catch {
      // A parent that may not be read is only a change that we hear of later.
    }
  }

  #take(type: string, name: string | null): void {
    // Node names the directory itself when that was moved or removed; the watch is dead then.
    if (type === 'rename' && name === basename(this.#options.directory)) this.#open();
    else this.#options.onEvent(name ?? undefined);
  }
}

/** Every name that is looked up on the way to the path, links followed, with what it leads to; ends at the first that is missing. */
function wayTo(path: string): (Step & { readonly identity: string })[] {
  const way: (Step & { readonly identity: string })[] = [];
  const names = namesOf(resolve(path));
  let at = '/';
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === '..') at = dirname(at);
    if (name === '..' || name === '.') continue;
    const place = join(at, name);
    const stat = lstatSync(place, { throwIfNoEntry: false, bigint: true });
    // The time of birth tells a new directory that got the old one's number.
    way.push({ directory: at, name, identity: stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}` });
    if (stat === undefined) break;
    if (!stat.isSymbolicLink()) {
      at = place;
      continue;
    }
    links += 1;
    if (links > mostLinks) break;
    const target = readlinkSync(place);
    if (isAbsolute(target)) at = '/';
    names.unshift(...namesOf(target));
  }
  return way;
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '');
