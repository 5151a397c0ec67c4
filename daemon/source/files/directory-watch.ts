// SPDX-License-Identifier: Apache-2.0
// Reports through inotify when the content of a directory may have changed. Watches the directory and each name on the path to it, so
// that a link with a new target, or a directory that is removed and created again, is noticed. Never reads a file. When the
// directory cannot be watched, retries with back-off. A change of a name on the path causes an immediate retry.
import { lstatSync, readlinkSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { ReasonError } from '../../base/errors.ts';
import { systemReason } from '../../base/reasons.ts';

const retryDelays = { firstMs: 100, mostMs: 5000 };
const maxLinks = 40;

export interface DirectoryWatchOptions {
  readonly directory: string;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** The name that changed; undefined when any name may have changed. */
  readonly onEvent: (name: string | undefined) => void;
}

/** A name that is looked up when the path is resolved, and the directory that contains the name. */
interface Step {
  readonly directory: string;
  readonly name: string;
}

export class DirectoryWatch {
  readonly #options: DirectoryWatchOptions;
  #watchers: FSWatcher[] = [];
  #cancelRetry: (() => void) | undefined;
  /** Number of failures in a row. */
  #failures = 0;
  #isRunning = false;
  #problem: string | undefined;

  constructor(options: DirectoryWatchOptions) {
    this.#options = options;
  }

  /** The reason why the directory is not watched at present. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Every start and restart ends with a call of onEvent(undefined). */
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
      const before = stepsTo(directory);
      for (const step of before) this.#watchStep(step);
      this.#add(directory, (type, name) => this.#onDirectoryEvent(type, name));
      // inotify reports no change that happened before a watch was added.
      if (JSON.stringify(stepsTo(directory)) !== JSON.stringify(before)) throw new ReasonError('the path changed while watches were added');
      this.#problem = undefined;
      this.#failures = 0;
    } catch (error) {
      this.#fail(error);
    }
    onEvent(undefined);
  }

  #fail(error: unknown): void {
    this.#problem = systemReason(error);
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
      // A directory on the path that cannot be watched is not an error: a change in it is noticed at a later retry or event.
    }
  }

  #onDirectoryEvent(type: string, name: string | null): void {
    // Node reports the name of the directory itself when it was moved or removed. The watch then reports nothing more.
    if (type === 'rename' && name === basename(this.#options.directory)) this.#open();
    else this.#options.onEvent(name ?? undefined);
  }
}

/**
 * Every name that is looked up to resolve the path, including the targets of symbolic links, with the identity of the inode. Ends
 * at the first missing name.
 */
function stepsTo(path: string): (Step & { readonly identity: string })[] {
  const steps: (Step & { readonly identity: string })[] = [];
  const names = namesOf(resolve(path));
  let at = '/';
  let links = 0;
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === '..') at = dirname(at);
    if (name === '..' || name === '.') continue;
    const place = join(at, name);
    const stat = lstatSync(place, { throwIfNoEntry: false, bigint: true });
    // The birth time distinguishes a new directory that was given the inode number of the old one.
    steps.push({ directory: at, name, identity: stat === undefined ? '' : `${stat.dev}:${stat.ino}:${stat.birthtimeNs}` });
    if (stat === undefined) break;
    if (!stat.isSymbolicLink()) {
      at = place;
      continue;
    }
    links += 1;
    if (links > maxLinks) break;
    const target = readlinkSync(place);
    if (isAbsolute(target)) at = '/';
    names.unshift(...namesOf(target));
  }
  return steps;
}

const namesOf = (path: string): string[] => path.split('/').filter((name) => name !== '');
