// SPDX-License-Identifier: Apache-2.0
// A directory of YAML and JSON as a source of Services, EndpointSlices, Nodes and ServiceCIDRs: reads it once, then whenever inotify says
// that something changed. Adds and changes count at once; a withdrawal, or text that may be half written, counts when it has
// stood for `settleMs`, since editors and git empty or remove a file before they write it. Bad input withdraws nothing.
// A link whose target outside the directory changes in place sends no event: rescan() (SIGHUP) sees it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import { Claims } from './file-objects.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { interpret, type FileState } from './file-state.ts';
import { ProblemReporter, compareProblems, problemOf, type ProblemLog, type SourceProblem } from '../problems.ts';
import { kindNames } from '../kinds.ts';
import type { Source } from '../source.ts';
import { type ObjectTables, tableOf } from '../tables.ts';
import { isLink, isSourceName, listDirectory, readSourceFile, type Reading } from './read-directory.ts';

export interface FilesSourceOptions {
  readonly directory: string;
  readonly tables: ObjectTables;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly log: ProblemLog;
  /** How long a withdrawal must stand. */
  readonly settleMs?: number;
}

const defaultSettleMs = 100;
const filesPerTurn = 64;

interface Doubt {
  readonly cancel: () => void;
  hasStood: boolean;
}

export class FilesSource implements Source {
  readonly name: string;
  readonly #options: FilesSourceOptions;
  readonly #claims: Claims;
  readonly #reporter: ProblemReporter;
  readonly #watch: DirectoryWatch;
  readonly #files = new Map<string, FileState>();
  /** Those of #files that are not complete or have a problem: few, however many files there are. */
  readonly #troubled = new Map<string, FileState>();
  readonly #doubts = new Map<string, Doubt>();
  #wanted = { all: false, names: new Set<string>() };
  #running: Promise<void> | undefined;
  #finishFirstList: (() => void) | undefined;
  #hasLinks = false;
  #isListed = false;
  #isStopped = true;
  #listingProblem: string | undefined;

  constructor(options: FilesSourceOptions) {
    this.#options = options;
    this.name = `files ${options.directory}`;
    this.#claims = new Claims(options.tables);
    this.#reporter = new ProblemReporter(options.log);
    this.#watch = new DirectoryWatch({ directory: options.directory, clock: options.clock, onEvent: (name) => this.#notice(name) });
  }

  /**
   * Registers with the tables, watches, and returns after the first scan. The tables are initialized by the first scan that
   * could list the directory. Aborting the signal stops.
   */
  async start(signal?: AbortSignal): Promise<void> {
    const finished = kindNames.map((kind) => tableOf(this.#options.tables, kind).registerSource(this.name));
    this.#finishFirstList = () => finished.forEach((finish) => finish());
    if (signal?.aborted === true) return;
    this.#isStopped = false;
    signal?.addEventListener('abort', () => void this.stop(), { once: true });
    this.#watch.start();
    await this.rescan();
  }

  /** No row is written after it returned; the rows stay. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#watch.stop();
    for (const { cancel } of this.#doubts.values()) cancel();
    this.#doubts.clear();
    await this.#running;
  }

  /** Reads the whole directory again; returns when that is done. */
  rescan(): Promise<void> {
    this.#wanted.all = true;
    return this.#run();
  }

  /** What is wrong now, sorted by file and line. */
  problems(): readonly SourceProblem[] {
    const { directory } = this.#options;
    const problems = [...this.#troubled.values()].flatMap((file) => file.problems);
    if (this.#listingProblem !== undefined) problems.push(problemOf(directory, `cannot be read: ${this.#listingProblem}`));
    else if (this.#watch.problem !== undefined)
      problems.push(problemOf(directory, `cannot be watched, trying again: ${this.#watch.problem}`));
    else if (this.#isListed && this.#files.size === 0) problems.push(problemOf(directory, 'holds no *.yaml, *.yml or *.json file'));
    return [...problems, ...this.#claims.problems()].toSorted(compareProblems);
  }

  /** Everything was read, understood and believed: only then may what is not in the tables be pruned. */
  get isComplete(): boolean {
    return this.#isListed && this.#listingProblem === undefined && this.#troubled.values().every((file) => file.isComplete);
  }

  #notice(name: string | undefined): void {
    if (this.#isStopped) return;
    if (name !== undefined && isSourceName(name)) this.#wanted.names.add(name);
    // Another name matters only as the target of a link: ConfigMap volumes swap "..data".
    else if (name === undefined || this.#hasLinks) this.#wanted.all = true;
    else return;
    void this.#run();
  }

  #run(): Promise<void> {
    if (this.#isStopped) return Promise.resolve();
    this.#running ??= this.#scanWhileWanted();
    return this.#running;
  }

  async #scanWhileWanted(): Promise<void> {
    try {
      do {
        // One turn, so that events that arrived together are one scan.
        await nextTurn();
        const wanted = this.#wanted;
        this.#wanted = { all: false, names: new Set() };
        await this.#scan(wanted);
      } while (!this.#isStopped && (this.#wanted.all || this.#wanted.names.size > 0));
    } finally {
      this.#running = undefined;
    }
  }

  async #scan(wanted: { all: boolean; names: ReadonlySet<string> }): Promise<void> {
    const { directory } = this.#options;
    const isPartial = !wanted.all && this.#isListed && !this.#hasLinks && ![...wanted.names].some((name) => isLink(directory, name));
    const names = isPartial ? wanted.names : this.#list();
    const changed = new Map<string, FileState>();
    let turn = 0;
    for (const name of names ?? []) {
      const state = await this.#readFile(name);
      if (state !== undefined) changed.set(name, state);
      turn += 1;
      if (turn % filesPerTurn === 0) await nextTurn();
    }
    if (this.#isStopped) return;
    this.#commit(changed);
    if (names !== undefined && !this.#isListed) {
      this.#isListed = true;
      this.#finishFirstList?.();
    }
    this.#reporter.report(this.problems());
  }

  /** All names that are there or were; undefined when the directory cannot be listed. */
  #list(): Iterable<string> | undefined {
    try {
      const { names, hasLinks } = listDirectory(this.#options.directory);
      this.#hasLinks = hasLinks;
      this.#listingProblem = undefined;
      return new Set([...names, ...this.#files.keys()]);
    } catch (error) {
      this.#listingProblem = messageOf(error);
      this.#suspendDoubts();
      return undefined;
    }
  }

  /** What vanished with the directory is doubted afresh when that is back, else a new, still empty one would withdraw it. */
  #suspendDoubts(): void {
    for (const [name, { cancel }] of this.#doubts) {
      cancel();
      const state = this.#files.get(name);
      if (state !== undefined) this.#files.set(name, { ...state, reading: { status: 'unreadable', reason: 'the directory is gone' } });
    }
    this.#doubts.clear();
  }

  /** The file's new state; undefined when it says what it said, or what is still in doubt. */
  async #readFile(name: string): Promise<FileState | undefined> {
    const reading = readSourceFile(this.#options.directory, name);
    const previous = this.#files.get(name);
    const doubt = this.#doubts.get(name);
    const isSame = previous !== undefined && isSameReading(previous.reading, reading);
    if (isSame && doubt?.hasStood !== true) return undefined;
    return interpret({ name, reading, previous, isTrusted: !this.#isListed || (isSame && doubt?.hasStood === true), breathe: nextTurn });
  }

  /** All files at once, so that an object that moves from one to another is never missing. */
  #commit(changed: ReadonlyMap<string, FileState>): void {
    for (const [name, state] of changed) {
      this.#claims.replace(name, this.#files.get(name)?.claims ?? [], state.claims);
      this.#doubts.get(name)?.cancel();
      this.#doubts.delete(name);
      if (state.isDoubted) this.#doubt(name);
      if (state.reading.status === 'gone' && !state.isDoubted) this.#files.delete(name);
      else this.#files.set(name, state);
      if (state.isComplete && state.problems.length === 0) this.#troubled.delete(name);
      else this.#troubled.set(name, state);
    }
    this.#claims.commit();
  }

  #doubt(name: string): void {
    const cancel = this.#options.clock.setTimer(this.#options.settleMs ?? defaultSettleMs, () => {
      doubt.hasStood = true;
      // The whole directory: if that is gone by now, it is the directory's problem and no withdrawal.
      void this.rescan();
    });
    const doubt: Doubt = { cancel, hasStood: false };
    this.#doubts.set(name, doubt);
  }
}

function isSameReading(a: Reading, b: Reading): boolean {
  if (a.status === 'text') return b.status === 'text' && a.text === b.text;
  if (a.status === 'unreadable') return b.status === 'unreadable' && a.reason === b.reason;
  return b.status === 'gone';
}
