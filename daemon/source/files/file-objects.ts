// SPDX-License-Identifier: Apache-2.0
// All files' claims on all objects -> rows in the tables. The first definition in (file name, document order) wins whatever
// the order of events; a claim that only holds leaves the row as it is; an object nobody claims is deleted.
// The only writer of the tables in this room; it writes differences.
import type { Claim } from './file-state.ts';
import { problemAt, type SourceProblem } from '../problems.ts';
import { type ObjectTables, writeRow } from '../tables.ts';

export class Claims {
  readonly #tables: ObjectTables;
  /** Sorted by file; within a file in document order. */
  readonly #byObject = new Map<string, readonly Claim[]>();
  readonly #touched = new Map<string, Claim>();
  readonly #duplicated = new Set<string>();

  constructor(tables: ObjectTables) {
    this.#tables = tables;
  }

  /** Exchanges one file's claims. The tables see nothing of it before commit(). */
  replace(file: string, before: readonly Claim[], after: readonly Claim[]): void {
    for (const claim of before) this.#forget(claim);
    const fresh = Map.groupBy(after, ({ id }) => id);
    for (const [id, claims] of fresh) {
      for (const claim of claims) this.#touched.set(id, claim);
      const others = this.#byObject.get(id) ?? [];
      const at = others.findIndex((other) => other.file > file);
      this.#byObject.set(id, at === -1 ? [...others, ...claims] : others.toSpliced(at, 0, ...claims));
    }
  }

  #forget(claim: Claim): void {
    const others = (this.#byObject.get(claim.id) ?? []).filter(({ file }) => file !== claim.file);
    if (others.length === 0) this.#byObject.delete(claim.id);
    else this.#byObject.set(claim.id, others);
    this.#touched.set(claim.id, claim);
  }

  /** Writes what the replaced claims changed. */
  commit(): void {
    for (const [id, { kind, key }] of this.#touched) {
      const claims = this.#byObject.get(id) ?? [];
      const definitions = claims.flatMap(({ definition }) => definition ?? []);
      const [winner] = definitions;
      if (winner !== undefined) writeRow(this.#tables, winner);
      else if (claims.length === 0) writeRow(this.#tables, { kind, key, row: undefined });
      if (definitions.length > 1) this.#duplicated.add(id);
      else this.#duplicated.delete(id);
    }
    this.#touched.clear();
  }

  /** Definitions that lost to an earlier one. */
  problems(): SourceProblem[] {
    return [...this.#duplicated].flatMap((id) => {
      const [winner, ...losers] = (this.#byObject.get(id) ?? []).filter(({ definition }) => definition !== undefined);
      if (winner === undefined) return [];
      return losers.map(({ file, line, kind, key }) => {
        const text = `${kind} ${key} metadata.name: is already defined at ${winner.file}:${winner.line()}, this one is ignored`;
        return problemAt({ file, line: line(), kind, object: key, field: 'metadata.name' }, text);
      });
    });
  }
}
