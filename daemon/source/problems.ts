// SPDX-License-Identifier: Apache-2.0
// What is wrong with a source or in it, as rows that people, logs and the API read. Nothing here changes what is served.
import { compareText } from '../model/order.ts';

export interface SourceProblem {
  /** Name in the directory, or the directory itself when it cannot be used; "" when there are no files. */
  readonly file: string;
  /** Counts from 1; 0 when the whole file is meant. */
  readonly line: number;
  /** "" when the text was too broken to tell; likewise `object` and `field`. */
  readonly kind: string;
  readonly object: string;
  readonly field: string;
  /** All of it as one sentence: "web.yaml:12: Service default/web spec.ports[0].port: must be 1..65535, is 70000". */
  readonly message: string;
  /** What it is about, where what it says may change while it lasts: then it is announced once all the same. */
  readonly about?: string;
}

/** Where problems are announced: each once when it appears and once when it is gone. */
export interface ProblemLog {
  appeared(problem: SourceProblem): void;
  resolved(problem: SourceProblem): void;
}

/** The problem of a place; `text` says the rest. */
export function problemAt(place: Omit<SourceProblem, 'message'>, text: string): SourceProblem {
  const { file, line, kind, object, field } = place;
  return { file, line, kind, object, field, message: `${file}${line === 0 ? '' : `:${line}`}: ${text}` };
}

/** The problem of a whole file or directory. */
export const problemOf = (file: string, text: string): SourceProblem => problemAt({ file, line: 0, kind: '', object: '', field: '' }, text);

/** By file, line and field. */
export function compareProblems(a: SourceProblem, b: SourceProblem): number {
  return compareText(a.file, b.file) || a.line - b.line || compareText(a.message, b.message);
}

/** Remembers what was announced, so that a problem that stays, or only moves to another line, is not announced again. */
export class ProblemReporter {
  readonly #log: ProblemLog;
  #announced = new Map<string, SourceProblem>();

  constructor(log: ProblemLog) {
    this.#log = log;
  }

  report(problems: readonly SourceProblem[]): void {
    const before = this.#announced;
    this.#announced = new Map(problems.map((problem) => [identityOf(problem), problem]));
    for (const [identity, problem] of this.#announced) if (!before.has(identity)) this.#log.appeared(problem);
    for (const [identity, problem] of before) if (!this.#announced.has(identity)) this.#log.resolved(problem);
  }
}

function identityOf({ file, line, message, about }: SourceProblem): string {
  if (about !== undefined) return about;
  return line === 0 ? message : message.replace(`${file}:${line}:`, `${file}:`);
}
