// SPDX-License-Identifier: Apache-2.0
// A directory of YAML and JSON files as a source of API objects. Reads the directory once, then after each inotify event.
// Additions and changes take effect at once. A deletion, or text that may be truncated, takes effect when it has not changed
// for settleMs, because editors and git empty or remove a file before they write it. Invalid input deletes nothing. If the
// target of a link is outside the directory and is changed in place, there is no event; rescan() (SIGHUP) reads it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { sizeText } from '../../base/bounded-read.ts';
import { printable } from '../../base/printable.ts';
import { compareText } from '../../model/order.ts';
import { DocumentParser, isLarge } from './document-parser.ts';
import type { ParsedDocument } from './documents.ts';
import { systemReason } from '../../base/reasons.ts';
import { FileObjects } from './file-objects.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { nextState, textsToParse, type FileState } from './file-state.ts';
import { kindNames } from '../kinds.ts';
import { MAX_NAMES, MAX_OBJECTS, MAX_TOTAL_BYTES } from './limits.ts';
import { ProblemReporter, limited, problemOf, type ProblemLog, type SourceProblem } from '../problems.ts';
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
/** Maximum number of characters that are read in one turn of the event loop. This takes 1 ms. */
const TURN_CHARS = 1 << 20;
/** Opening a file takes as long as reading this number of characters. */
const FILE_CHARS = TURN_CHARS / 64;

const SHOWN_KINDS = 10;
/**
 * Delays before a file or a directory that could not be read is read again. No event reports that descriptors or memory have become free.
 */
const unreadableDelays = { firstMs: 1000, mostMs: 60_000 };

/** A file whose state is uncertain. */
interface UncertainFile {
  /** Function that cancels the timer which sets isDue. */
  readonly cancel: () => void;
  /** True when settleMs have passed. If the file is then unchanged, its state is settled. */
  isDue: boolean;
}

/** The texts of a large file that are parsed while other files are read. */
interface ParseJob {
  /** The parsed documents; undefined until all texts are parsed. */
  parsed: ReadonlyMap<string, ParsedDocument> | undefined;
  readonly done: Promise<void>;
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
  /** The files that contain objects of kinds that the agent does not use. */
  readonly #withIgnored = new Map<string, FileState>();
  readonly #uncertain = new Map<string, UncertainFile>();
  readonly #parser: DocumentParser;
  /** Jobs by file. A file has one job at a time; a change during the job is noticed when the job is done. */
  readonly #jobs = new Map<string, ParseJob>();
  /** Totals of all files, including those that the present scan has read. */
  readonly #total = { chars: 0, objects: 0 };
  #charsThisTurn = 0;
  #reportedKinds = '';
  #requested = { all: false, names: new Set<string>() };
  #running: Promise<void> | undefined;
  #finishFirstList: (() => void) | undefined;
  #hasLinks = false;
  #isListed = false;
  #isStopped = true;
  #listingProblem: string | undefined;
  /** Number of retries that were scheduled since everything was readable. */
  #unreadableTries = 0;
  #cancelRetry: (() => void) | undefined;

  constructor(options: FilesSourceOptions) {
    this.#options = options;
    this.name = `files ${options.directory}`;
    this.#objects = new FileObjects(options.tables);
    this.#reporter = new ProblemReporter(options.log);
    this.#parser = new DocumentParser(options.clock);
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
    this.#cancelRetry?.();
    for (const { cancel } of this.#uncertain.values()) cancel();
    this.#uncertain.clear();
    await this.#parser.close();
    await this.#running;
  }

  /** Reads the whole directory again. Returns when this is done. */
  async rescan(): Promise<void> {
    this.#requested.all = true;
    await this.#run();
    await Promise.all(this.#jobs.values().map(({ done }) => done));
    await this.#run();
  }

  /** The present problems, sorted by file and line. */
  problems(): readonly SourceProblem[] {
    return limited(this.#allProblems());
  }

  *#allProblems(): Generator<SourceProblem> {
    const { directory } = this.#options;
    if (this.#listingProblem !== undefined) yield problemOf(directory, `cannot be read: ${this.#listingProblem}`);
    else if (this.#watch.problem !== undefined) yield problemOf(directory, `cannot be watched, will be retried: ${this.#watch.problem}`);
    else if (this.#isListed && this.#files.size === 0) yield problemOf(directory, 'contains no *.yaml, *.yml or *.json file');
    if (this.#parser.problem !== undefined)
      yield problemOf(directory, `cannot be parsed, will be retried: a thread cannot be started: ${this.#parser.problem}`);
    for (const file of this.#withProblems.values()) yield* file.problems;
    yield* this.#objects.problems();
  }

  /** "ignores Deployment (3), Pod (1)": the objects that the agent does not use; "" when there are none. */
  get omissions(): string {
    const counts = new Map<string, number>();
    for (const { ignored } of this.#withIgnored.values())
      for (const [kind, count] of ignored) counts.set(kind, (counts.get(kind) ?? 0) + count);
    const texts = [...counts].toSorted(([a], [b]) => compareText(a, b)).map(([kind, count]) => `${kind} (${count})`);
    const more = texts.length > SHOWN_KINDS ? ` and ${texts.length - SHOWN_KINDS} more kinds` : '';
    return texts.length === 0 ? '' : printable(`ignores ${texts.slice(0, SHOWN_KINDS).join(', ')}${more}`);
  }

  /** True if all files were read and understood, and no state is uncertain. */
  get isComplete(): boolean {
    return (
      this.#isListed &&
      this.#listingProblem === undefined &&
      this.#jobs.size === 0 &&
      this.#withProblems.values().every((file) => file.isComplete)
    );
  }

  #onEvent(name: string | undefined): void {
    if (this.#isStopped) return;
    if (name !== undefined && isSourceName(name)) this.#requested.names.add(name);
    // A file with any other name matters only as the target of a link: in a ConfigMap volume, "..data" is replaced.
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
    } catch (error) {
      // stop() has ended the scan, so the scan is not committed and its error is ignored.
      if (!this.#isStopped) throw error;
    } finally {
      this.#running = undefined;
    }
  }

  /** Lets other tasks run. Throws when the source was stopped while they ran, so that a long scan does not delay the stop. */
  readonly #yieldTurn = async (): Promise<void> => {
    await nextTurn();
    if (this.#isStopped) throw new DOMException('the source was stopped', 'AbortError');
  };

  async #scan(requested: { all: boolean; names: ReadonlySet<string> }): Promise<void> {
    const { directory } = this.#options;
    const isPartial = !requested.all && this.#isListed && !this.#hasLinks && ![...requested.names].some((name) => isLink(directory, name));
    const names = isPartial ? requested.names : this.#list();
    const changed = new Map<string, FileState>();
    for (const name of names ?? []) {
      const state = await this.#readFile(name);
      if (state !== undefined) {
        changed.set(name, state);
        this.#addToTotal(state, this.#files.get(name));
      }
      if (this.#charsThisTurn < TURN_CHARS) continue;
      this.#charsThisTurn = 0;
      await this.#yieldTurn();
    }
    if (this.#isStopped) return;
    this.#commit(changed);
    if (names !== undefined && !this.#isListed) {
      this.#isListed = true;
      this.#finishFirstList?.();
    }
    this.#reporter.report(this.problems());
    this.#reportOmissions();
    this.#retryUnreadable();
  }

  /** Reports the kinds of objects that the agent does not use, once for each set of kinds. */
  #reportOmissions(): void {
    const { omissions } = this;
    const kinds = omissions.replaceAll(/ \(\d+\)/g, '');
    if (kinds !== '' && kinds !== this.#reportedKinds) this.#options.log.noted?.(`${this.name} ${omissions}`);
    this.#reportedKinds = kinds;
  }

  #addToTotal(state: FileState, previous: FileState | undefined): void {
    this.#total.chars += sizeOf(state).chars - sizeOf(previous).chars;
    this.#total.objects += sizeOf(state).objects - sizeOf(previous).objects;
  }

  /** Schedules a retry of everything that could not be read. The delay grows with each retry, and other scans do not change it. */
  #retryUnreadable(): void {
    const isNeeded = this.#isListingLost() || this.#unreadableNames().length > 0;
    if (!isNeeded) {
      this.#cancelRetry?.();
      this.#cancelRetry = undefined;
      this.#unreadableTries = 0;
    }
    if (!isNeeded || this.#cancelRetry !== undefined) return;
    this.#unreadableTries += 1;
    this.#cancelRetry = this.#options.clock.setTimer(doubledMs(this.#unreadableTries, unreadableDelays), () => {
      this.#cancelRetry = undefined;
      if (this.#isListingLost()) this.#requested.all = true;
      for (const name of this.#unreadableNames()) this.#requested.names.add(name);
      void this.#run();
    });
  }

  #unreadableNames(): string[] {
    return [...this.#withProblems].filter(([, file]) => file.result.status === 'unreadable').map(([name]) => name);
  }

  /**
   * Whether a retry must list the directory. While the directory cannot be watched, the watch itself retries and causes a scan each time.
   */
  #isListingLost(): boolean {
    return this.#listingProblem !== undefined && this.#watch.problem === undefined;
  }

  /** All present and former names; undefined when the directory cannot be listed. */
  #list(): Iterable<string> | undefined {
    try {
      const { names, hasLinks } = listDirectory(this.#options.directory);
      this.#hasLinks = hasLinks;
      this.#listingProblem = undefined;
      return new Set([...names, ...this.#files.keys(), ...this.#jobs.keys()]);
    } catch (error) {
      this.#listingProblem = systemReason(error);
      this.#suspendUncertain();
      return undefined;
    }
  }

  /**
   * While the directory is missing, uncertain files count as unreadable. They become uncertain again when a new directory exists. Otherwise
   * a new, empty directory would delete their objects at once.
   */
  #suspendUncertain(): void {
    for (const [name, { cancel }] of this.#uncertain) {
      cancel();
      const state = this.#files.get(name);
      if (state === undefined) continue;
      const suspended: FileState = { ...state, result: { status: 'unreadable', reason: 'the directory is missing' } };
      this.#addToTotal(suspended, state);
      this.#files.set(name, suspended);
    }
    this.#uncertain.clear();
  }

  /**
   * Reads the file and returns its new state. Returns undefined while a job parses the file, and if the file is unchanged. For an unchanged
   * file that is uncertain and due, returns the settled state.
   */
  async #readFile(name: string): Promise<FileState | undefined> {
    const previous = this.#files.get(name);
    const result = this.#withinLimits(name, readSourceFile(this.#options.directory, name), previous);
    this.#charsThisTurn += FILE_CHARS + (result.status === 'text' ? result.text.length : 0);
    // A deletion waits for the parser, because the object may have moved to the file that is parsed.
    const isDue = this.#uncertain.get(name)?.isDue === true && this.#jobs.values().every(({ parsed }) => parsed !== undefined);
    const isUnchanged = previous !== undefined && isSameResult(previous.result, result);
    if (isUnchanged && this.#jobs.get(name)?.parsed !== undefined) this.#jobs.delete(name);
    if (isUnchanged && !isDue) return undefined;
    const parsed = await this.#parsedTexts(name, textsToParse(name, result, previous));
    if (parsed === undefined) return undefined;
    const isSettled = !this.#isListed || (isUnchanged && isDue);
    const state = nextState({ name, result, previous, isSettled, parsed });
    const growth = sizeOf(state).objects - sizeOf(previous).objects;
    if (growth <= 0 || this.#total.objects + growth <= MAX_OBJECTS) return state;
    const reason = `the files of the directory would define more than ${MAX_OBJECTS} objects`;
    return nextState({ name, result: { status: 'unreadable', reason }, previous, isSettled, parsed });
  }

  /**
   * Returns the parsed texts, or undefined while a job parses them. The first scan waits for the parser instead, because it must be
   * complete.
   */
  async #parsedTexts(name: string, texts: readonly string[]): Promise<ReadonlyMap<string, ParsedDocument> | undefined> {
    const isJson = name.endsWith('.json');
    const job = this.#jobs.get(name);
    const missing = texts.filter((text) => job?.parsed?.has(text) !== true);
    if (this.#isListed && isLarge(missing)) {
      if (job === undefined || job.parsed !== undefined) this.#startJob(name, this.#parser.parse(texts, isJson));
      return undefined;
    }
    if (job?.parsed !== undefined) this.#jobs.delete(name);
    return new Map([...(job?.parsed ?? []), ...(await this.#parser.parse(missing, isJson))]);
  }

  #startJob(name: string, parsing: Promise<ReadonlyMap<string, ParsedDocument>>): void {
    const done = parsing.then((parsed) => {
      job.parsed = parsed;
      // The whole directory is scanned, because the deletions of other files may have waited for this job, and files may be missing by now.
      this.#requested.all = true;
      void this.#run();
    });
    const job: ParseJob = { parsed: undefined, done };
    this.#jobs.set(name, job);
  }

  /** Refuses a text with which the directory would exceed a limit. */
  #withinLimits(name: string, result: ReadResult, previous: FileState | undefined): ReadResult {
    if (result.status !== 'text') return result;
    const growth = result.text.length - sizeOf(previous).chars;
    if (growth > 0 && this.#total.chars + growth > MAX_TOTAL_BYTES)
      return { status: 'unreadable', reason: `the files of the directory would be larger than ${sizeText(MAX_TOTAL_BYTES)} together` };
    if (previous === undefined && this.#files.size >= MAX_NAMES)
      return { status: 'unreadable', reason: `the directory contains more than ${MAX_NAMES} files` };
    return result;
  }

  /** Commits all files together, so that an object that moves from one file to another is never missing. */
  #commit(changed: ReadonlyMap<string, FileState>): void {
    for (const [name, state] of changed) {
      const previous = this.#files.get(name);
      this.#objects.replace(name, previous?.objects ?? [], state.objects);
      this.#uncertain.get(name)?.cancel();
      this.#uncertain.delete(name);
      if (state.isUncertain) this.#waitUntilSettled(name);
      const isGone = state.result.status === 'missing' && !state.isUncertain;
      if (isGone) this.#files.delete(name);
      else this.#files.set(name, state);
      if (state.isComplete && state.problems.length === 0) this.#withProblems.delete(name);
      else this.#withProblems.set(name, state);
      if (state.ignored.size === 0) this.#withIgnored.delete(name);
      else this.#withIgnored.set(name, state);
    }
    this.#objects.commit();
  }

  #waitUntilSettled(name: string): void {
    const cancel = this.#options.clock.setTimer(this.#options.settleMs ?? defaultSettleMs, () => {
      file.isDue = true;
      // The whole directory is read, so that no object is deleted if the directory is missing by now.
      void this.rescan();
    });
    const file: UncertainFile = { cancel, isDue: false };
    this.#uncertain.set(name, file);
  }
}

/** The numbers of characters and objects that the file adds to the total of the directory. */
const sizeOf = (state: FileState | undefined): { readonly chars: number; readonly objects: number } => ({
  chars: state?.result.status === 'text' ? state.result.text.length : 0,
  objects: state?.objects.length ?? 0,
});

function isSameResult(a: ReadResult, b: ReadResult): boolean {
  if (a.status === 'text') return b.status === 'text' && a.text === b.text;
  if (a.status === 'unreadable') return b.status === 'unreadable' && a.reason === b.reason;
  return b.status === 'missing';
}
