// SPDX-License-Identifier: Apache-2.0
// Receives the objects of one resource, writes the row of each object, and collects the problems of the objects. An invalid object
// leaves its last valid row unchanged. No other file of kubernetes/ writes rows.
import { InvalidObjectError } from '../../base/errors.ts';
import { convertObject, identify } from '../objects.ts';
import type { SourceProblem } from '../problems.ts';
import { type ObjectTables, tableOf, writeRow } from '../tables.ts';
import { MAX_OBJECT_PROBLEMS } from './limits.ts';
import type { Resource } from './resources.ts';

interface ObjectProblems {
  readonly problems: readonly SourceProblem[];
  /** True if the object is invalid and there is no earlier row. */
  readonly hasNoRow: boolean;
}

export class TableWriter {
  readonly #resource: Resource;
  readonly #tables: ObjectTables;
  readonly #redact: (text: string) => string;
  readonly #problems = new Map<string, ObjectProblems>();

  /** `redact` is ApiClient.redact(). Messages show values of objects, and such a value may repeat the token. */
  constructor(resource: Resource, { tables, redact }: { readonly tables: ObjectTables; readonly redact: (text: string) => string }) {
    this.#resource = resource;
    this.#tables = tables;
    this.#redact = redact;
  }

  /** Writes an object that was added or changed. Returns its key. */
  put(raw: unknown): string {
    const object = this.#withKind(raw);
    const key = identify(object).object;
    try {
      const converted = convertObject(object);
      if (converted.kind === 'unknown') throw converted.problems[0] ?? new Error(`unknown kind ${this.#resource.kind}`);
      writeRow(this.#tables, converted);
      this.#setProblems(key, converted.problems, false);
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      this.#setProblems(key, [error], this.#table.get(key) === undefined);
    }
    return key;
  }

  /** Deletes the row of an object that is gone. Returns its key. */
  delete(raw: unknown): string {
    const key = identify(this.#withKind(raw)).object;
    this.#remove(key);
    return key;
  }

  /** Deletes the rows of all objects except these. */
  deleteOthers(keys: ReadonlySet<string>): void {
    for (const [key] of [...this.#table.all()]) if (!keys.has(key)) this.#remove(key);
    for (const key of [...this.#problems.keys()]) if (!keys.has(key)) this.#problems.delete(key);
  }

  *problems(): Generator<SourceProblem> {
    for (const { problems } of this.#problems.values()) yield* problems;
  }

  /** True if every object has a row or needs none. */
  get isComplete(): boolean {
    return this.#problems.values().every(({ hasNoRow }) => !hasNoRow);
  }

  get #table() {
    return tableOf(this.#tables, this.#resource.kind);
  }

  /** Adds the kind and the apiVersion, because items of a list do not contain them. */
  #withKind(raw: unknown): unknown {
    if (typeof raw !== 'object' || raw === null) return raw;
    return Object.assign(raw, { kind: this.#resource.kind, apiVersion: this.#resource.apiVersion });
  }

  #setProblems(key: string, errors: readonly InvalidObjectError[], hasNoRow: boolean): void {
    if (errors.length === 0) {
      this.#problems.delete(key);
      return;
    }
    const redact = this.#redact;
    const problems = errors.slice(0, MAX_OBJECT_PROBLEMS).map(({ kind, object, field, message }) => ({
      ...{ file: '', line: 0, kind: redact(kind), object: redact(object), field: redact(field), message: redact(message) },
    }));
    const { kind, object } = problems[0] ?? { kind: '', object: '' };
    const more = errors.length - problems.length;
    const message = `${kind} ${object}: has ${more} more problems`;
    if (more > 0) problems.push({ file: '', line: 0, kind, object, field: '', message });
    this.#problems.set(key, { problems, hasNoRow });
  }

  #remove(key: string): void {
    this.#table.delete(key);
    this.#problems.delete(key);
  }
}
