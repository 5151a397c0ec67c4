// SPDX-License-Identifier: Apache-2.0
// Writes the address sets of the node into the tries lb4_ranges and lb6_ranges: own addresses, local pods, ClusterIPs and Service
// CIDRs. The tries also hold the source ranges of Service ports, which belong to lb-operations.ts and must not be changed here.
// Every operation is idempotent; the in-memory copy changes only after the map call succeeded. Called by the Reconciler.
import { AddressSetNumber, type LbMaps, type MapPressure, type RangeMapKey } from '../../maps/types.ts';
import { cidrContains, type Family, families, familyOf } from '../../model/address.ts';
import { type DesiredRange, rangeKey } from '../../model/frontend.ts';
import { cidrText, rangeMapKey } from '../../maps/rows.ts';
import type { Operations } from '../../table/reconciler.ts';
import type { TableView } from '../../table/table.ts';

/** rangeKey() of a trie entry; undefined if the entry is a source range of a Service port. */
function keyOf(entry: RangeMapKey): string | undefined {
  const set = Object.entries(AddressSetNumber).find(([, number]) => number === entry.set)?.[0] as DesiredRange['set'] | undefined;
  return set === undefined ? undefined : rangeKey({ set, cidr: cidrText(entry) });
}

/** Entries that are compared in one step: 0.1 ms. */
const COMPARED_ENTRIES = 32;

interface Applied {
  readonly family: Family;
  readonly key: RangeMapKey;
}

export class AddressSetOperations implements Operations<string, DesiredRange> {
  readonly #maps: LbMaps['ranges'];
  /** The trie entries that are members of an address set, by rangeKey(). */
  readonly #applied = new Map<string, Applied>();
  readonly #rows: Pick<TableView<string, DesiredRange>, 'get'> | undefined;
  #isRestored = false;
  #freed = 0;

  /** `rows` is the table that the Reconciler applies; only withdrawAround() reads it. */
  constructor(maps: Pick<LbMaps, 'ranges'>, rows?: Pick<TableView<string, DesiredRange>, 'get'>) {
    this.#maps = maps.ranges;
    this.#rows = rows;
  }

  restore(): void {
    this.#isRestored = false;
    this.#applied.clear();
    for (const family of families) {
      for (const key of this.#maps[family].entries()) {
        const text = keyOf(key);
        if (text !== undefined) this.#applied.set(text, { family, key });
      }
    }
    this.#isRestored = true;
  }

  update(row: DesiredRange): void {
    if (this.#applied.has(rangeKey(row))) return;
    const entry = { family: familyOf(row.cidr), key: rangeMapKey(AddressSetNumber[row.set], row.cidr) };
    this.#maps[entry.family].add(entry.key);
    this.#applied.set(rangeKey(row), entry);
  }

  delete(key: string): void {
    const entry = this.#applied.get(key);
    if (entry === undefined) return;
    this.#maps[entry.family].remove(entry.key);
    this.#applied.delete(key);
    this.#freed += 1;
  }

  /**
   * Removes the ClusterIPs and Service CIDRs of an earlier process that contain the address and that no row wants. Returns their keys.
   * Must not be called for an address that is a ClusterIP in use.
   */
  withdrawAround(address: string): string[] {
    if (!this.#isRestored) this.restore();
    const sets: readonly number[] = [AddressSetNumber.clusterIP, AddressSetNumber.serviceCIDR];
    const found = [...this.#applied].filter(([, { key }]) => sets.includes(key.set) && cidrContains(cidrText(key), address));
    const unwanted = found.map(([key]) => key).filter((key) => this.#rows?.get(key) === undefined);
    for (const key of unwanted) this.delete(key);
    return unwanted;
  }

  prune(rows: TableView<string, DesiredRange>): boolean {
    for (const key of [...this.#applied.keys()]) if (rows.get(key) === undefined) this.delete(key);
    return true;
  }

  *repair(): Generator<string[], void> {
    // Rows may be added and deleted between two steps of this generator. What was applied when the tries were read decides what must be
    // in them; before an entry is written, its row is looked up again.
    const applied = new Map(this.#applied);
    const listed = families.flatMap((family) => this.#maps[family].entries().map((key): Applied => ({ family, key })));
    const found = new Set<string>();
    const unwanted: Applied[] = [];
    for (const [index, entry] of listed.entries()) {
      const text = keyOf(entry.key);
      if (text !== undefined && applied.has(text)) found.add(text);
      else if (text !== undefined) unwanted.push(entry);
      if ((index + 1) % COMPARED_ENTRIES === 0) yield [];
    }
    let compared = 0;
    for (const [text, entry] of applied) {
      compared += 1;
      if (compared % COMPARED_ENTRIES === 0) yield [];
      if (found.has(text) || this.#applied.get(text) !== entry) continue;
      this.#maps[entry.family].add(entry.key);
      yield [`${this.#maps[entry.family].name}: entry ${text} was missing`];
    }
    for (const { family, key } of unwanted) {
      if (this.#applied.has(keyOf(key) ?? '')) continue;
      this.#maps[family].remove(key);
      yield [`${this.#maps[family].name}: entry ${keyOf(key)} was not desired`];
    }
  }

  /** Number of trie entries that are members of an address set. */
  pressure(): MapPressure[] {
    const counts = new Map<Family, number>();
    for (const { family } of this.#applied.values()) counts.set(family, (counts.get(family) ?? 0) + 1);
    return families.map((family) => {
      const { name, capacity } = this.#maps[family];
      return { map: name, used: counts.get(family) ?? 0, capacity };
    });
  }

  freed(): number {
    return this.#freed;
  }

  freesAt(): undefined {
    return undefined;
  }
}
