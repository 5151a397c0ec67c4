// SPDX-License-Identifier: Apache-2.0
// A directory of YAML and JSON files as a source of API objects. Reads the directory once, then after each inotify event.
// Additions and changes take effect at once. A deletion, or text that may be truncated, takes effect when the file has not changed
// for settleMs (settling.ts), because editors and git empty or remove a file before they write it. Invalid input deletes nothing. If the
// target of a link is outside the directory and is changed in place, there is no event; rescan() (SIGHUP) reads it. A scan is done in
// slices; the rows that it changes are written together.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { doubledMs } from '../../base/back-off.ts';
import type { Clock } from '../../base/clock.ts';
import { type Pace, Pacer, Turns } from '../../base/slices.ts';
import { DocumentParser, isLarge } from './document-parser.ts';
import type { DocumentText, ParsedDocument } from './documents.ts';
import { systemReason } from '../../base/reasons.ts';
import { FileObjects } from './file-objects.ts';
import { DirectoryWatch } from './directory-watch.ts';
import { nextState, textsOf, textsToParse, type FileState } from './file-state.ts';
import { FileSet } from './file-set.ts';
import { kindNames } from '../kinds.ts';
import { MAX_DOCUMENTS } from './limits.ts';
import { ProblemReporter, limited, problemOf, type ProblemLog, type SourceProblem } from '../problems.ts';
import type { Source } from '../source.ts';
import { type ObjectTables, tableOf } from '../tables.ts';
import { changeStamp, isLink, isSourceName, listDirectory, readSourceFile, type ReadResult } from './read-directory.ts';
import { Settling } from './settling.ts';

export interface FilesSourceOptions {
  readonly directory: string;
  readonly tables: ObjectTables;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly log: ProblemLog;
  /** Time without a change after which a deletion, or text that may be truncated, takes effect. */
  readonly settleMs?: number;
  /** When a scan pauses. Default: after each slice, until the next round of the event loop. */
  readonly pace?: Pace;
}

const defaultSettleMs = 100;
/**
 * Delays before a file or a directory that could not be read is read again. No event reports that descriptors or memory have become free.
 */
const unreadableDelays = { firstMs: 1000, mostMs: 60_000 };

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
  readonly #files = new FileSet();
  readonly #settling: Settling;
  readonly #parser: DocumentParser;
  /** Jobs by file. A file has one job at a time; a change during the job is noticed when the job is done. */
  readonly #jobs = new Map<string, ParseJob>();
  readonly #pacer: Pacer;
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
    this.#pacer = new Pacer(options.pace ?? new Turns(), () => this.#throwIfStopped());
    this.#settling = new Settling({
      ...{ clock: options.clock, settleMs: this.#settleMs },
      // The whole directory is read, so that no object is deleted if the directory is missing by now.
      onDue: () => void this.rescan(),
      // A scan without a request reports the problems.
      onRestless: () => void this.#run(),
    });
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
    this.#settling.clear();
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
    for (const name of this.#settling.restless())
      yield problemOf(name, `changes all the time: what it lacks now is kept until the file has not changed for ${this.#settleMs} ms`);
    yield* this.#files.problems();
    yield* this.#objects.problems();
  }

  get #settleMs(): number {
    return this.#options.settleMs ?? defaultSettleMs;
  }

  /** "ignores Deployment (3), Pod (1)": the objects that the agent does not use; "" when there are none. */
  get omissions(): string {
    return this.#files.omissions;
  }

  /** True if all files were read and understood, and no state is uncertain. */
  get isComplete(): boolean {
    return this.#isListed && this.#listingProblem === undefined && this.#jobs.size === 0 && this.#files.isComplete;
  }

  #onEvent(name: string | undefined): void {
    if (this.#isStopped) return;
    if (name !== undefined && isSourceName(name)) {
      this.#settling.changed(name);
      this.#requested.names.add(name);
    }
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
        this.#pacer.begin();
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

  /** After each pause, so that a long scan does not delay the stop. */
  #throwIfStopped(): void {
    if (this.#isStopped) throw new DOMException('the source was stopped', 'AbortError');
  }

  async #scan(requested: { all: boolean; names: ReadonlySet<string> }): Promise<void> {
    const { directory } = this.#options;
    const isPartial = !requested.all && this.#isListed && !this.#hasLinks && ![...requested.names].some((name) => isLink(directory, name));
    const names = isPartial ? requested.names : this.#list();
    const changed = new Map<string, FileState>();
    for (const name of names ?? []) {
      const state = await this.#readFile(name);
      this.#throwIfStopped();
      if (state !== undefined) {
        changed.set(name, state);
        this.#files.count(state, this.#files.get(name));
        if (state.isUncertain) this.#settling.wait(name, changeStamp(directory, name));
        else this.#settling.release(name);
      }
      await this.#pacer.pause();
    }
    if (this.#isStopped) return;
    await this.#commit(changed);
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

  /** Schedules a retry of everything that could not be read. The delay grows with each retry, and other scans do not change it. */
  #retryUnreadable(): void {
    const isNeeded = this.#isListingLost() || this.#files.unreadableNames().length > 0;
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
      for (const name of this.#files.unreadableNames()) this.#requested.names.add(name);
      void this.#run();
    });
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
      return new Set([...names, ...this.#files.names(), ...this.#jobs.keys()]);
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
    for (const name of this.#settling.clear()) {
      const state = this.#files.get(name);
      if (state === undefined) continue;
      const suspended: FileState = { ...state, result: { status: 'unreadable', reason: 'the directory is missing' } };
      this.#files.count(suspended, state);
      this.#files.set(name, suspended);
    }
  }

  /**
   * Reads the file and returns its new state. Returns undefined while a job parses the file, and if the file is unchanged. For an unchanged
   * file that is uncertain and due, returns the settled state.
   */
  async #readFile(name: string): Promise<FileState | undefined> {
    const previous = this.#files.get(name);
    const { result, texts } = await this.#readTexts(name, previous);
    const isUnchanged = previous !== undefined && isSameResult(previous.result, result);
    if (isUnchanged && this.#jobs.get(name)?.parsed !== undefined) this.#jobs.delete(name);
    const isSettled = isUnchanged && this.#isSettled(name);
    if (isUnchanged && !isSettled) return undefined;
    const parsed = await this.#parsedTexts(name, await this.#pacer.run(textsToParse(texts, previous)));
    if (parsed === undefined) return undefined;
    const input = { name, texts, previous, isSettled: !this.#isListed || isSettled, parsed };
    const state = await this.#pacer.run(nextState({ ...input, result }));
    const reason = this.#files.objectsRefusal(state, previous);
    return reason === undefined ? state : this.#pacer.run(nextState({ ...input, result: { status: 'unreadable', reason } }));
  }

  /** A deletion waits for the parser, because the object may have moved to the file that is parsed. */
  #isSettled(name: string): boolean {
    if (!this.#jobs.values().every(({ parsed }) => parsed !== undefined)) return false;
    return this.#settling.isSettled(name, () => changeStamp(this.#options.directory, name));
  }

  /** Reads the file and splits its text. The texts of an unchanged file that is not uncertain are not needed, and are left out. */
  async #readTexts(name: string, previous: FileState | undefined): Promise<{ result: ReadResult; texts: readonly DocumentText[] }> {
    const read = await this.#pacer.run(readSourceFile(this.#options.directory, name, previous?.result));
    const result = this.#files.withinLimits(name, read);
    if (result.status !== 'text') return { result, texts: [] };
    const isUnchanged = previous !== undefined && isSameResult(previous.result, result);
    if (isUnchanged && !this.#settling.has(name)) return { result, texts: [] };
    const texts = await this.#pacer.run(textsOf(name, result.text));
    if (texts !== undefined) return { result, texts };
    return { result: { status: 'unreadable', reason: `it contains more than ${MAX_DOCUMENTS} documents` }, texts: [] };
  }

  /**
   * Returns the parsed texts, or undefined while a job parses them. The first scan waits for the parser instead, because it must be
   * complete.
   */
  async #parsedTexts(name: string, texts: readonly string[]): Promise<ReadonlyMap<string, ParsedDocument> | undefined> {
    const isJson = name.endsWith('.json');
    const job = this.#jobs.get(name);
    const missing = texts.filter((text) => job?.parsed?.has(text) !== true);
    if (this.#isListed && isLarge(missing, isJson)) {
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

  /** Commits all files together, so that an object that moves from one file to another is never missing. */
  async #commit(changed: ReadonlyMap<string, FileState>): Promise<void> {
    for (const [name, state] of changed)
      await this.#pacer.run(this.#objects.replace(name, this.#files.get(name)?.objects ?? [], state.objects));
    const write = await this.#pacer.run(this.#objects.commit());
    // From here on there is no pause.
    for (const [name, state] of changed) {
      if (state.result.status === 'missing' && !state.isUncertain) this.#files.delete(name);
      else this.#files.set(name, state);
    }
    write();
  }
}

function isSameResult(a: ReadResult, b: ReadResult): boolean {
  if (a.status === 'text') return b.status === 'text' && a.text === b.text && a.isPrivate === b.isPrivate;
  if (a.status === 'unreadable') return b.status === 'unreadable' && a.reason === b.reason;
  return b.status === 'missing';
}
