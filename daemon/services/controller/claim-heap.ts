// SPDX-License-Identifier: Apache-2.0
// The claims to one contested frontend, as a binary heap: the claim that takes precedence is at the top. Adding and removing a claim take
// logarithmic time, so that an address stays cheap even when thousands of Services claim it. Used by frontend-owners.ts.

export class ClaimHeap<Claim extends { readonly key: string }> {
  readonly #compare: (a: Claim, b: Claim) => number;
  /** The heap as an array: the claim at index i takes precedence over the claims at 2i + 1 and 2i + 2. */
  readonly #claims: Claim[] = [];
  /** Index of each claim by its key. */
  readonly #indexes = new Map<string, number>();

  constructor(compare: (a: Claim, b: Claim) => number) {
    this.#compare = compare;
  }

  get size(): number {
    return this.#claims.length;
  }

  get top(): Claim | undefined {
    return this.#claims[0];
  }

  /** Replaces the claim with the same key. */
  add(claim: Claim): void {
    this.remove(claim.key);
    this.#put(this.#claims.length, claim);
    this.#up(this.#claims.length - 1);
  }

  remove(key: string): void {
    const index = this.#indexes.get(key);
    if (index === undefined) return;
    this.#indexes.delete(key);
    const last = this.#claims.pop();
    if (last === undefined || index === this.#claims.length) return;
    this.#put(index, last);
    this.#up(index);
    this.#down(this.#indexes.get(last.key) ?? index);
  }

  /** The first claims in order of precedence, without sorting the others. */
  first(count: number): Claim[] {
    const found: Claim[] = [];
    // Every claim comes after its parent, so the next claim is the top or a child of a claim that was already found.
    const candidates = this.#claims.length === 0 ? [] : [0];
    while (found.length < count && candidates.length > 0) {
      const best = candidates.reduce((a, b) => (this.#isBefore(b, a) ? b : a));
      candidates.splice(candidates.indexOf(best), 1);
      const claim = this.#claims[best];
      if (claim !== undefined) found.push(claim);
      for (const child of [2 * best + 1, 2 * best + 2]) if (child < this.#claims.length) candidates.push(child);
    }
    return found;
  }

  #isBefore(a: number, b: number): boolean {
    const [first, second] = [this.#claims[a], this.#claims[b]];
    return first !== undefined && second !== undefined && this.#compare(first, second) < 0;
  }

  #put(index: number, claim: Claim): void {
    this.#claims[index] = claim;
    this.#indexes.set(claim.key, index);
  }

  #swap(a: number, b: number): void {
    const [first, second] = [this.#claims[a], this.#claims[b]];
    if (first === undefined || second === undefined) return;
    this.#put(a, second);
    this.#put(b, first);
  }

  #up(from: number): void {
    for (let index = from; index > 0;) {
      const parent = (index - 1) >> 1;
      if (!this.#isBefore(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  #down(from: number): void {
    for (let index = from; ;) {
      let least = index;
      for (const child of [2 * index + 1, 2 * index + 2]) if (this.#isBefore(child, least)) least = child;
      if (least === index) return;
      this.#swap(index, least);
      index = least;
    }
  }
}
