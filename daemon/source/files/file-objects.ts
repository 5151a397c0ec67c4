// SPDX-License-Identifier: Apache-2.0
// Objects of all files -> rows in the tables. If an object is defined several times, the first definition in the first file by
// name is used, whatever the order of events. A retained object (file-state.ts) leaves its row unchanged; an object that is in
// no file is deleted. No other file of files/ writes tables. Only differences are written.
import { type ObjectTables, writeRow } from '../tables.ts';
import { problemAt, type SourceProblem } from '../problems.ts';
import type { FileObject } from './file-state.ts';

export class FileObjects {
  readonly #tables: ObjectTables;
  /** The definitions of each object, sorted by file, and in document order within a file. */
  readonly #byId = new Map<string, readonly FileObject[]>();
  /** Objects that changed since the last commit(). */
  readonly #changed = new Map<string, FileObject>();
  readonly #duplicated = new Set<string>();

  constructor(tables: ObjectTables) {
    this.#tables = tables;
  }

  /** Replaces the objects of one file. The tables change with commit(). */
  replace(file: string, before: readonly FileObject[], after: readonly FileObject[]): void {
    for (const object of before) this.#remove(object);
    for (const [id, objects] of Map.groupBy(after, (object) => object.id)) {
      for (const object of objects) this.#changed.set(id, object);
      const others = this.#byId.get(id) ?? [];
      // The search begins at the end, because files are read in the order of their names.
      const at = others.findLastIndex((other) => other.file < file) + 1;
      this.#byId.set(id, others.toSpliced(at, 0, ...objects));
    }
  }

  #remove(object: FileObject): void {
    const others = (this.#byId.get(object.id) ?? []).filter(({ file }) => file !== object.file);
    if (others.length === 0) this.#byId.delete(object.id);
    else this.#byId.set(object.id, others);
    this.#changed.set(object.id, object);
  }

  /** Writes the rows of the objects that changed. */
  commit(): void {
    for (const [id, { kind, key }] of this.#changed) {
      const objects = this.#byId.get(id) ?? [];
      const definitions = objects.flatMap(({ definition }) => definition ?? []);
      const [first] = definitions;
      if (first !== undefined) writeRow(this.#tables, first);
      else if (objects.length === 0) writeRow(this.#tables, { kind, key, row: undefined });
      if (definitions.length > 1) this.#duplicated.add(id);
      else this.#duplicated.delete(id);
    }
    this.#changed.clear();
  }

  /** One problem for each definition that is ignored because an earlier definition of the same object exists. */
  *problems(): Generator<SourceProblem> {
    for (const id of this.#duplicated) {
      const [first, ...ignored] = (this.#byId.get(id) ?? []).filter(({ definition }) => definition !== undefined);
      for (const { file, line, kind, key } of first === undefined ? [] : ignored) {
        const text = `${kind} ${key} metadata.name: is already defined at ${first?.file}:${first?.line}, this definition is ignored`;
        yield problemAt({ file, line, kind, object: key, field: 'metadata.name' }, text);
      }
    }
  }

  /** Number of different objects in all files. */
  get size(): number {
    return this.#byId.size;
  }
}
