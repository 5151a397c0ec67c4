// SPDX-License-Identifier: Apache-2.0
// Problems of a source and of the objects in it, as rows for people, logs and the API. A problem does not change what is
// served.
import { printable } from '../base/printable.ts';
import { compareText } from '../model/order.ts';

/** Maximum number of problems that a source reports one by one, each with a log line. */
export const MAX_PROBLEMS = 1000;

export interface SourceProblem {
  /** Name in the directory, or the directory itself when it cannot be used; "" for a source without files. */
  readonly file: string;
  /** Line of the problem, counted from 1; 0 for a problem of the whole file. */
  readonly line: number;
  /** `kind`, `object` and `field` are "" when unknown, for example because the text does not parse. */
  readonly kind: string;
  readonly object: string;
  readonly field: string;
  /** The whole problem: "web.yaml:12: Service default/web spec.ports[0].port: must be 1..65535, is 70000". */
  readonly message: string;
  /** Identifies a problem whose message may change while the problem lasts, so that the problem is logged once. */
  readonly identity?: string;
}

/** Receives each problem once when it appears and once when it is resolved. */
export interface ProblemLog {
  appeared(problem: SourceProblem): void;
  resolved(problem: SourceProblem): void;
  /** Receives a message that is not a problem and that people should see once. */
  noted?(text: string): void;
}

/** A problem at a place. The message is the place and the text. */
export function problemAt(place: Omit<SourceProblem, 'message'>, text: string): SourceProblem {
  const { file, line, kind, object, field } = place;
  const at = printable(file);
  return {
    ...{ file: at, line, kind: printable(kind), object: printable(object), field: printable(field) },
    message: printable(`${at}${line === 0 ? '' : `:${line}`}: ${text}`),
  };
}

/** A problem of a whole file or directory. */
export const problemOf = (file: string, text: string): SourceProblem => problemAt({ file, line: 0, kind: '', object: '', field: '' }, text);

/** Orders by file, line and message. */
export function compareProblems(a: SourceProblem, b: SourceProblem): number {
  return compareText(a.file, b.file) || a.line - b.line || compareText(a.message, b.message);
}

/** The problems, sorted. If there are more than MAX_PROBLEMS, the last element states the number of those that are left out. */
export function limited(problems: Iterable<SourceProblem>): SourceProblem[] {
  const kept: SourceProblem[] = [];
  let more = 0;
  for (const problem of problems) {
    if (kept.length < MAX_PROBLEMS) kept.push(problem);
    else more += 1;
  }
  kept.sort(compareProblems);
  const text = `${more} more problems are not listed`;
  return more === 0 ? kept : [...kept, { file: '', line: 0, kind: '', object: '', field: '', message: text, identity: 'more problems' }];
}

/** Reports the difference to the previous problems. A problem that only moves to another line is not reported again. */
export class ProblemReporter {
  readonly #log: ProblemLog;
  #reported = new Map<string, SourceProblem>();

  constructor(log: ProblemLog) {
    this.#log = log;
  }

  report(problems: readonly SourceProblem[]): void {
    const before = this.#reported;
    this.#reported = new Map(problems.map((problem) => [identityOf(problem), problem]));
    for (const [identity, problem] of this.#reported) if (!before.has(identity)) this.#log.appeared(problem);
    for (const [identity, problem] of before) if (!this.#reported.has(identity)) this.#log.resolved(problem);
  }
}

function identityOf({ file, line, message, identity }: SourceProblem): string {
  if (identity !== undefined) return identity;
  return line === 0 ? message : message.replace(`${file}:${line}:`, `${file}:`);
}
