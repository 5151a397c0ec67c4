// SPDX-License-Identifier: Apache-2.0
// Allocators of what array maps have a fixed number of: ids (service indices, backend ids) and runs of slots. Memory
// only, no map calls; lb-state.ts fills them from the maps at start. Who frees must let the grace period pass first.
import type { Range } from '../../maps/types.ts';

/** Numbers 1 .. capacity-1; 0 means "none" in every map. */
export class IdPool {
  readonly capacity: number;
  readonly #free: number[] = [];
  #next: number;

  /** `used` need not be sorted; every number in it is below capacity. */
  constructor(capacity: number, used: Iterable<number>) {
    this.capacity = capacity;
    const isUsed = new Set(used);
    this.#next = 1;
    for (const id of isUsed) this.#next = Math.max(this.#next, id + 1);
    // Low ids are taken first: a dense map is a warm one.
    for (let id = this.#next - 1; id > 0; id -= 1) if (!isUsed.has(id)) this.#free.push(id);
  }

  /** How many ids can still be taken. */
  get available(): number {
    return this.#free.length + Math.max(0, this.capacity - this.#next);
  }

  get used(): number {
    return Math.max(0, this.capacity - 1) - this.available;
  }

  take(): number | undefined {
    const id = this.#free.pop();
    if (id !== undefined) return id;
    if (this.#next >= this.capacity) return undefined;
    this.#next += 1;
    return this.#next - 1;
  }

  giveBack(id: number): void {
    this.#free.push(id);
  }
}

/** Runs of slots: first fit over the free ranges, neighbours merged when freed. */
export class RunPool {
  readonly capacity: number;
  // Sorted by base, no two adjacent.
  readonly #free: Range[] = [];
  #used = 0;

  /** `used` is sorted by base and does not overlap. */
  constructor(capacity: number, used: Iterable<Range>) {
    this.capacity = capacity;
    let end = 0;
    for (const range of used) {
      if (range.base > end) this.#free.push({ base: end, count: range.base - end });
      end = range.base + range.count;
      this.#used += range.count;
    }
    if (end < capacity) this.#free.push({ base: end, count: capacity - end });
  }

  get used(): number {
    return this.#used;
  }

  /** The base of `count` (> 0) slots, or undefined when no free range is long enough. */
  take(count: number): number | undefined {
    const at = this.#free.findIndex((range) => range.count >= count);
    const range = this.#free[at];
    if (range === undefined) return undefined;
    if (range.count === count) this.#free.splice(at, 1);
    else this.#free[at] = { base: range.base + count, count: range.count - count };
    this.#used += count;
    return range.base;
  }

  /** An empty range is given back by doing nothing. */
  giveBack(range: Range): void {
    if (range.count === 0) return;
    this.#used -= range.count;
    const at = this.#firstAfter(range.base);
    const [before, after] = [this.#free[at - 1], this.#free[at]];
    const joinsBefore = before !== undefined && before.base + before.count === range.base;
    const joinsAfter = after !== undefined && range.base + range.count === after.base;
    const base = joinsBefore ? before.base : range.base;
    const end = joinsAfter ? after.base + after.count : range.base + range.count;
    this.#free.splice(at - Number(joinsBefore), Number(joinsBefore) + Number(joinsAfter), { base, count: end - base });
  }

  #firstAfter(base: number): number {
    let low = 0;
    let high = this.#free.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#free[middle]?.base ?? Infinity) > base) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
