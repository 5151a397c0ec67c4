// SPDX-License-Identifier: Apache-2.0
// A directory of YAML and JSON files as a source of API objects. Reads the directory once, then after each inotify event.
// Additions and changes take effect at once. A deletion, or text that may be truncated, takes effect when it has not changed
// for settleMs, because editors and git empty or remove a file before they write it. Invalid input deletes nothing. If the
// target of a link is outside the directory and is changed in place, there is no event; rescan() (SIGHUP) reads it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { systemReason } from '../../base/reasons.ts';
import { FileObjects } from './file-objects.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { nextState, type FileState } from './file-state.ts';
import { kindNames } from '../kinds.ts';
import { ProblemReporter, compareProblems, problemOf, type ProblemLog, type SourceProblem } from '../problems.ts';
import type { Source } from '../source.ts';
import { type ObjectTables, tableOf } from '../tables.ts';
import { isLink, isSourceName, listDirectory, readSourceFile, type ReadResult } from './read-directory.ts';

export interface FilesSourceOptions {
  readonly directory: string;
  readonly tables: ObjectTables;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly log: ProblemLog;
  /** Time without a change after which a deletion, or text that may be truncated, takes effect. */
  readonly settleMs?: number;
}

const defaultSettleMs = 100;
const filesPerTurn = 64;

/** A file whose state is uncertain. */
interface UncertainFile {
  /** Cancels the timer that sets isDue. */
  readonly cancel: () => void;
  /** settleMs have passed: if the file is unchanged, its state is settled. */
  isDue: boolean;
}

export class FilesSource implements Source {
  readonly name: string;
  readonly #options: FilesSourceOptions;
  readonly #objects: FileObjects;
  readonly #reporter: ProblemReporter;
  readonly #watch: DirectoryWatch;
  readonly #files = new Map<string, FileState>();
  /** The files that are incomplete or have a problem. Usually few, even in a large directory. */
  readonly #withProblems = new Map<string, FileState>();
  readonly #uncertain = new Map<string, UncertainFile>();
  #requested = { all: false, names: new Set<string>() };
  #running: Promise<void> | undefined;
  #finishFirstList: (() => void) | undefined;
  #hasLinks = false;
  #isListed = false;
  #isStopped = true;
  #listingProblem: string | undefined;

  constructor(options: FilesSourceOptions) {
    this.#options = options;
    this.name = `files ${options.directory}`;
    this.#objects = new FileObjects(options.tables);
    this.#reporter = new ProblemReporter(options.log);
    this.#watch = new DirectoryWatch({ directory: options.directory, clock: options.clock, onEvent: (name) => this.#onEvent(name) });
  }

  /**
   * Registers with the tables, starts to watch, and returns after the first scan. The tables are initialized by the first scan
   * that can list the directory. Aborting the signal stops the source.
   */
  async start(signal?: AbortSignal): Promise<void> {
    const finish = kindNames.map((kind) => tableOf(this.#options.tables, kind).registerSource(this.name));
    this.#finishFirstList = () => finish.forEach((finishTable) => finishTable());
    if (signal?.aborted === true) return;
    this.#isStopped = false;
    signal?.addEventListener('abort', () => void this.stop(), { once: true });
    this.#watch.start();
    await this.rescan();
  }

  /** No row is written after this call returns. The rows stay. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#watch.stop();
    for (const { cancel } of this.#uncertain.values()) cancel();
    this.#uncertain.clear();
    await this.#running;
  }

  /** Reads the whole directory again. Returns when this is done. */
  rescan(): Promise<void> {
    this.#requested.all = true;
    return this.#run();
  }

  /** The present problems, sorted by file and line. */
  problems(): readonly SourceProblem[] {
    const { directory } = this.#options;
    const problems = [...this.#withProblems.values()].flatMap((file) => file.problems);
    if (this.#listingProblem !== undefined) problems.push(problemOf(directory, `cannot be read: ${this.#listingProblem}`));
    else if (this.#watch.problem !== undefined)
      problems.push(problemOf(directory, `cannot be watched, will be retried: ${this.#watch.problem}`));
    else if (this.#isListed && this.#files.size === 0) problems.push(problemOf(directory, 'contains no *.yaml, *.yml or *.json file'));
    return [...problems, ...this.#objects.problems()].toSorted(compareProblems);
  }

  /** All files were read and understood, and no state is uncertain. */
  get isComplete(): boolean {
    return this.#isListed && this.#listingProblem === undefined && this.#withProblems.values().every((file) => file.isComplete);
  }

  #onEvent(name: string | undefined): void {
    if (this.#isStopped) return;
    if (name !== undefined && isSourceName(name)) this.#requested.names.add(name);
    // Any other name matters only as the target of a link: in a ConfigMap volume, "..data" is replaced.
    else if (name === undefined || this.#hasLinks) this.#requested.all = true;
    else return;
    void this.#run();
  }

  #run(): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    this.#running ??= this.#scanWhileRequested();
    return this.#running;
  }

  async #scanWhileRequested(): Promise<void> {
    try {
      do {
        // Waits one turn, so that events that arrive together cause one scan.
        await nextTurn();
        const requested = this.#requested;
        this.#requested = { all: false, names: new Set() };
        await this.#scan(requested);
      } while (!this.#isStopped && (this.#requested.all || this.#requested.names.size > 0));
    } finally {
      this.#running = undefined;
    }
  }

  async #scan(requested: { all: boolean; names: ReadonlySet<string> }): Promise<void> {
    const { directory } = this.#options;
    const isPartial = !requested.all && this.#isListed && !this.#hasLinks && ![...requested.names].some((name) => isLink(directory, name));
    const names = isPartial ? requested.names : this.#list();
    const changed = new Map<string, FileState>();
    let count = 0;
    for (const name of names ?? []) {
      const state = await this.#readFile(name);
      if (state !== undefined) changed.set(name, state);
      count += 1;
      if (count % filesPerTurn === 0) await nextTurn();
    }
    if (this.#isStopped) return;
    this.#commit(changed);
    if (names !== undefined && !this.#isListed) {
      this.#isListed = true;
      this.#finishFirstList?.();
    }
    this.#reporter.report(this.problems());
  }

  /** All present and former names; undefined when the directory cannot be listed. */
  #list(): Iterable<string> | undefined {
    try {
      const { names, hasLinks } = listDirectory(this.#options.directory);
      this.#hasLinks = hasLinks;
      this.#listingProblem = undefined;
      return new Set([...names, ...this.#files.keys()]);
    } catch (error) {
      this.#listingProblem = systemReason(error);
      this.#suspendUncertain();
      return undefined;
    }
  }

  /**
   * While the directory is missing, uncertain files count as unreadable. When the directory is created again, they are checked
   * anew. Otherwise a new, empty directory would delete their objects at once.
   */
  #suspendUncertain(): void {
    for (const [name, { cancel }] of this.#uncertain) {
      cancel();
      const state = this.#files.get(name);
      if (state !== undefined) this.#files.set(name, { ...state, result: { status: 'unreadable', reason: 'the directory is missing' } });
    }
    this.#uncertain.clear();
  }

  /** The new state of the file; undefined when the file is unchanged, unless it is uncertain and due. */
  async #readFile(name: string): Promise<FileState | undefined> {
    const result = readSourceFile(this.#options.directory, name);
    const previous = this.#files.get(name);
    const isDue = this.#uncertain.get(name)?.isDue === true;
    const isUnchanged = previous !== undefined && isSameResult(previous.result, result);
    if (isUnchanged && !isDue) return undefined;
    return nextState({ name, result, previous, isSettled: !this.#isListed || (isUnchanged && isDue), yieldTurn: nextTurn });
  }

  /** Commits all files together, so that an object that moves from one file to another is never missing. */
  #commit(changed: ReadonlyMap<string, FileState>): void {
    for (const [name, state] of changed) {
      this.#objects.replace(name, this.#files.get(name)?.objects ?? [], state.objects);
      this.#uncertain.get(name)?.cancel();
      this.#uncertain.delete(name);
      if (state.isUncertain) this.#waitUntilSettled(name);
      if (state.result.status === 'missing' && !state.isUncertain) this.#files.delete(name);
      else this.#files.set(name, state);
      if (state.isComplete && state.problems.length === 0) this.#withProblems.delete(name);
      else this.#withProblems.set(name, state);
    }
    this.#objects.commit();
  }

  #waitUntilSettled(name: string): void {
    const cancel = this.#options.clock.setTimer(this.#options.settleMs ?? defaultSettleMs, () => {
      file.isDue = true;
      // Reads the whole directory: if the directory is missing by now, no object is deleted.
      void this.rescan();
    });
    const file: UncertainFile = { cancel, isDue: false };
    this.#uncertain.set(name, file);
  }
}

function isSameResult(a: ReadResult, b: ReadResult): boolean {
  if (a.status === 'text') return b.status === 'text' && a.text === b.text;
  if (a.status === 'unreadable') return b.status === 'unreadable' && a.reason === b.reason;
  return b.status === 'missing';
}
