// SPDX-License-Identifier: Apache-2.0
// Objects of one resource, as the server sends them -> rows, and what is wrong with them. An object that cannot be used
// leaves the last good row as it is. The only writer of rows in this room.
import { InvalidObjectError } from '../../base/errors.ts';
import { convertObject, identify } from '../objects.ts';
import type { SourceProblem } from '../problems.ts';
import { type ObjectTables, tableOf, writeRow } from '../tables.ts';
import type { Resource } from './resources.ts';

interface Trouble {
  readonly problems: readonly SourceProblem[];
  /** There was never a row that could have been kept. */
  readonly isLost: boolean;
}

export class Intake {
  readonly #resource: Resource;
  readonly #tables: ObjectTables;
  readonly #troubles = new Map<string, Trouble>();

  constructor(resource: Resource, tables: ObjectTables) {
    this.#resource = resource;
    this.#tables = tables;
  }

  /** The object is so. Returns its key. */
  put(raw: unknown): string {
    const object = this.#named(raw);
    const key = identify(object).object;
    try {
      const converted = convertObject(object);
      if (converted.kind === 'unknown') throw converted.problems[0] ?? new Error(`unknown kind ${this.#resource.kind}`);
      writeRow(this.#tables, converted);
      this.#note(key, converted.problems, false);
    } catch (error) {
      if (!(error instanceof InvalidObjectError)) throw error;
      this.#note(key, [error], this.#table().get(key) === undefined);
    }
    return key;
  }

  /** The object is gone. Returns its key. */
  remove(raw: unknown): string {
    const key = identify(this.#named(raw)).object;
    this.#forget(key);
    return key;
  }

  /** These are all the objects that there are. */
  retain(keys: ReadonlySet<string>): void {
    for (const [key] of [...this.#table().all()]) if (!keys.has(key)) this.#forget(key);
    for (const key of [...this.#troubles.keys()]) if (!keys.has(key)) this.#troubles.delete(key);
  }

  problems(): SourceProblem[] {
    return [...this.#troubles.values()].flatMap(({ problems }) => problems);
  }

  /** Every object that there is has a row, or needs none. */
  get isComplete(): boolean {
    return this.#troubles.values().every(({ isLost }) => !isLost);
  }

  get size(): number {
    return this.#table().size;
  }

  #table() {
    return tableOf(this.#tables, this.#resource.kind);
  }

  /** Items of a list do not say what they are. */
  #named(raw: unknown): unknown {
    if (typeof raw !== 'object' || raw === null) return raw;
    return Object.assign(raw, { kind: this.#resource.kind, apiVersion: this.#resource.apiVersion });
  }

  #note(key: string, errors: readonly InvalidObjectError[], isLost: boolean): void {
    if (errors.length === 0) {
      this.#troubles.delete(key);
      return;
    }
    const problems = errors.map(({ kind, object, field, message }) => ({ file: '', line: 0, kind, object, field, message }));
    this.#troubles.set(key, { problems, isLost });
  }

  #forget(key: string): void {
    this.#table().delete(key);
    this.#troubles.delete(key);
  }
}
