// SPDX-License-Identifier: Apache-2.0
// Allocators for array maps: ids (service indices, backend ids) and runs of slots. They make no map calls; restore.ts fills
// them from the maps at start. Callers must not return a published id or run before the grace period (quarantine.ts) ended.
import type { Range } from '../../maps/types.ts';

/** Allocates the numbers 1 to capacity - 1. In every map, 0 means "none". */
export class IdPool {
  readonly capacity: number;
  readonly #free: number[] = [];
  #next: number;

  /** `used` may be unsorted. Every number in it is less than capacity. */
  constructor(capacity: number, used: Iterable<number>) {
    this.capacity = capacity;
    const isUsed = new Set(used);
    this.#next = 1;
    for (const id of isUsed) this.#next = Math.max(this.#next, id + 1);
    // Low ids are taken first, so that the used rows are close together in the CPU caches.
    for (let id = this.#next - 1; id > 0; id -= 1) if (!isUsed.has(id)) this.#free.push(id);
  }

  /** Number of free ids. */
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

/** Allocates runs of slots: first fit over the free ranges. Adjacent free ranges are merged. */
export class RunPool {
  readonly capacity: number;
  /** The free ranges, sorted by base. No two ranges are adjacent. */
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

  /** Returns the base of `count` (> 0) slots, or undefined if no free range is long enough. */
  take(count: number): number | undefined {
    const at = this.#free.findIndex((range) => range.count >= count);
    const range = this.#free[at];
    if (range === undefined) return undefined;
    if (range.count === count) this.#free.splice(at, 1);
    else this.#free[at] = { base: range.base + count, count: range.count - count };
    this.#used += count;
    return range.base;
  }

  /** Frees a range of slots. Does nothing for an empty range. */
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
