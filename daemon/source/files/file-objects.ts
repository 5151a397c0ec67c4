// SPDX-License-Identifier: Apache-2.0
// Objects of all files -> rows in the tables. If an object is defined several times, the first definition in the first file by
// name is used, whatever the order of events. A retained object (file-state.ts) leaves its row unchanged; an object that is in
// no file is deleted. No other file of files/ writes tables. Only differences are written. The caller can pause while differences are
// computed; they are then written without a pause, so that nobody sees a part of them.
import type { Steps } from '../../base/slices.ts';
import type { Definition } from '../kinds.ts';
import { isSameRow, type ObjectTables, setRow } from '../tables.ts';
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
  *replace(file: string, before: readonly FileObject[], after: readonly FileObject[]): Steps {
    const ids = yield* changedIds(before, after);
    if (ids.size === 0) return;
    for (const object of before) {
      if (!ids.has(object.id)) continue;
      this.#remove(object);
      yield;
    }
    const added = new Map<string, FileObject[]>();
    for (const object of after) {
      if (!ids.has(object.id)) continue;
      const same = added.get(object.id);
      if (same === undefined) added.set(object.id, [object]);
      else same.push(object);
      yield;
    }
    for (const [id, objects] of added) {
      for (const object of objects) this.#changed.set(id, object);
      const others = this.#byId.get(id) ?? [];
      // The search begins at the end, because files are read in the order of their names.
      const at = others.findLastIndex((other) => other.file < file) + 1;
      this.#byId.set(id, others.toSpliced(at, 0, ...objects));
      yield;
    }
  }

  #remove(object: FileObject): void {
    const others = (this.#byId.get(object.id) ?? []).filter(({ file }) => file !== object.file);
    if (others.length === 0) this.#byId.delete(object.id);
    else this.#byId.set(object.id, others);
    this.#changed.set(object.id, object);
  }

  /**
   * Computes the rows of the objects that changed. Returns the function that writes them, to be called before the next replace(). Only
   * this class writes the tables, so the differences do not change meanwhile.
   */
  *commit(): Steps<() => void> {
    const writes: Definition[] = [];
    for (const [id, { kind, key }] of this.#changed) {
      const objects = this.#byId.get(id) ?? [];
      const definitions = objects.flatMap(({ definition }) => definition ?? []);
      const [first] = definitions;
      if (first !== undefined && !isSameRow(this.#tables, first)) writes.push(first);
      else if (objects.length === 0) writes.push({ kind, key, row: undefined });
      if (definitions.length > 1) this.#duplicated.add(id);
      else this.#duplicated.delete(id);
      yield;
    }
    this.#changed.clear();
    return () => {
      for (const definition of writes) setRow(this.#tables, definition);
    };
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

/** Objects that are compared in one step: 10 microseconds. */
const COMPARED_OBJECTS = 256;

/** The ids of objects that are not the same, or not at the same place, before and after. */
function* changedIds(before: readonly FileObject[], after: readonly FileObject[]): Steps<Set<string>> {
  const ids = new Set<string>();
  for (let index = 0; index < Math.max(before.length, after.length); index += 1) {
    const [old, fresh] = [before[index], after[index]];
    if (old !== fresh) {
      if (old !== undefined) ids.add(old.id);
      if (fresh !== undefined) ids.add(fresh.id);
    }
    if (index % COMPARED_OBJECTS === 0) yield;
  }
  return ids;
}
