// SPDX-License-Identifier: Apache-2.0
// Writes the source addresses of masqueraded packets into the tries lb4_sources and lb6_sources. Every operation is idempotent; the
// in-memory copy changes only after the map call succeeded. It must not delete the address of a device while another one of the device is
// not written yet; the table writes before it deletes. Called by the Reconciler.
import type { SourceMapKey, SourceMaps } from '../../maps/types.ts';
import { type Family, families, familyOf } from '../../model/address.ts';
import { type MasqueradeSource, sourceKey } from '../../model/masquerade.ts';
import type { Operations } from '../../table/reconciler.ts';
import type { TableView } from '../../table/table.ts';

interface Applied {
  readonly family: Family;
  readonly key: SourceMapKey;
  readonly address: string;
}

/** Entries that are compared in one step: 0.1 ms. */
const COMPARED_ENTRIES = 32;

const rowKeyOf = ({ ifindex, address, prefix }: SourceMapKey): string => sourceKey({ ifindex, cidr: `${address}/${prefix - 32}` });

export class SourceOperations implements Operations<string, MasqueradeSource> {
  readonly #maps: SourceMaps;
  /** The trie entries by sourceKey(). */
  readonly #applied = new Map<string, Applied>();
  #freed = 0;

  constructor(maps: SourceMaps) {
    this.#maps = maps;
  }

  restore(): void {
    this.#applied.clear();
    for (const [text, entry] of this.#listed()) this.#applied.set(text, entry);
  }

  update(row: MasqueradeSource): void {
    const [address = '', length = ''] = row.cidr.split('/');
    const entry = {
      ...{ family: familyOf(row.cidr), address: row.address },
      key: { prefix: 32 + Number(length), ifindex: row.ifindex, address },
    };
    if (this.#applied.get(sourceKey(row))?.address === row.address) return;
    this.#maps[entry.family].set(entry.key, { address: entry.address });
    this.#applied.set(sourceKey(row), entry);
  }

  delete(key: string): void {
    const entry = this.#applied.get(key);
    if (entry === undefined) return;
    this.#maps[entry.family].delete(entry.key);
    this.#applied.delete(key);
    this.#freed += 1;
  }

  prune(rows: TableView<string, MasqueradeSource>): boolean {
    for (const key of [...this.#applied.keys()]) if (rows.get(key) === undefined) this.delete(key);
    return true;
  }

  *repair(): Generator<string[], void> {
    const found = this.#listed();
    let compared = 0;
    for (const [text, entry] of new Map(this.#applied)) {
      compared += 1;
      if (compared % COMPARED_ENTRIES === 0) yield [];
      const { name } = this.#maps[entry.family];
      if (found.get(text)?.address === entry.address || this.#applied.get(text) !== entry) continue;
      this.#maps[entry.family].set(entry.key, { address: entry.address });
      yield [`${name}: entry ${text} was missing or changed`];
    }
    for (const [text, { family, key }] of found) {
      if (this.#applied.has(text)) continue;
      this.#maps[family].delete(key);
      yield [`${this.#maps[family].name}: entry ${text} was not desired`];
    }
  }

  freed(): number {
    return this.#freed;
  }

  freesAt(): undefined {
    return undefined;
  }

  /** The entries of the tries, by sourceKey(). */
  #listed(): Map<string, Applied> {
    const listed = families.flatMap((family) =>
      this.#maps[family].entries().map(([key, { address }]): [string, Applied] => [rowKeyOf(key), { family, key, address }]),
    );
    return new Map(listed);
  }
}
