// SPDX-License-Identifier: Apache-2.0
// The states of all files of a directory, and what they add up to: problems, objects of other kinds, and sizes, which are limited. It must
// never read a file or write a table. Used by files-source.ts.
import { sizeText } from '../../base/bounded-read.ts';
import { printable } from '../../base/printable.ts';
import { compareText } from '../../model/order.ts';
import type { SourceProblem } from '../problems.ts';
import type { FileState } from './file-state.ts';
import { MAX_NAMES, MAX_OBJECTS, MAX_TOTAL_BYTES } from './limits.ts';
import type { ReadResult } from './read-directory.ts';

const SHOWN_KINDS = 10;

export class FileSet {
  readonly #files = new Map<string, FileState>();
  /** The files that are incomplete or have a problem. Usually few, even in a large directory. */
  readonly #withProblems = new Map<string, FileState>();
  /** The files that contain objects of kinds that the agent does not use. */
  readonly #withIgnored = new Map<string, FileState>();
  /** Totals of all files, including those that the present scan has read. */
  readonly #total = { chars: 0, objects: 0 };

  get size(): number {
    return this.#files.size;
  }

  get(name: string): FileState | undefined {
    return this.#files.get(name);
  }

  names(): Iterable<string> {
    return this.#files.keys();
  }

  set(name: string, state: FileState): void {
    this.#files.set(name, state);
    if (state.isComplete && state.problems.length === 0) this.#withProblems.delete(name);
    else this.#withProblems.set(name, state);
    if (state.ignored.size === 0) this.#withIgnored.delete(name);
    else this.#withIgnored.set(name, state);
  }

  delete(name: string): void {
    this.#files.delete(name);
    this.#withProblems.delete(name);
    this.#withIgnored.delete(name);
  }

  /** Replaces what the file adds to the total, before set() is called. */
  count(state: FileState, previous: FileState | undefined): void {
    this.#total.chars += sizeOf(state).chars - sizeOf(previous).chars;
    this.#total.objects += sizeOf(state).objects - sizeOf(previous).objects;
  }

  /** Refuses a text with which the directory would exceed a limit. */
  withinLimits(name: string, result: ReadResult): ReadResult {
    if (result.status !== 'text') return result;
    const previous = this.get(name);
    const growth = result.text.length - sizeOf(previous).chars;
    if (growth > 0 && this.#total.chars + growth > MAX_TOTAL_BYTES)
      return { status: 'unreadable', reason: `the files of the directory would be larger than ${sizeText(MAX_TOTAL_BYTES)} together` };
    if (previous === undefined && this.size >= MAX_NAMES)
      return { status: 'unreadable', reason: `the directory contains more than ${MAX_NAMES} files` };
    return result;
  }

  /** Why the directory would exceed the limit of objects with this state of the file. */
  objectsRefusal(state: FileState, previous: FileState | undefined): string | undefined {
    const growth = sizeOf(state).objects - sizeOf(previous).objects;
    if (growth <= 0 || this.#total.objects + growth <= MAX_OBJECTS) return undefined;
    return `the files of the directory would define more than ${MAX_OBJECTS} objects`;
  }

  *problems(): Generator<SourceProblem> {
    for (const file of this.#withProblems.values()) yield* file.problems;
  }

  /** True if all files were read and understood, and no state is uncertain. */
  get isComplete(): boolean {
    return this.#withProblems.values().every((file) => file.isComplete);
  }

  unreadableNames(): string[] {
    return [...this.#withProblems].filter(([, file]) => file.result.status === 'unreadable').map(([name]) => name);
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
}

/** The numbers of characters and objects that the file adds to the total of the directory. */
const sizeOf = (state: FileState | undefined): { readonly chars: number; readonly objects: number } => ({
  chars: state?.result.status === 'text' ? state.result.text.length : 0,
  objects: state?.objects.length ?? 0,
});
