// SPDX-License-Identifier: Apache-2.0
// Decides which Service port owns a contested frontend. Every Service port claims its frontends here, and the first claim in
// the order of precedence wins: an exact address before a NodePort, then the oldest Service, then name and port
// (test/README.md, 3.1 and 3.3). The result does not depend on the order in which claims are made. Used by
// service-controller.ts.
import { type Frontend, frontendKey } from '../../model/frontend.ts';
import { ClaimHeap } from './claim-heap.ts';

/**
 * Maximum number of contenders that a Conflict lists, and maximum number of conflicts that are listed. The limits keep the status short:
 * it is read every second, also by people.
 */
const LISTED_CONTENDERS = 10;
const LISTED_CONFLICTS = 1000;

export interface Claimant {
  /** Key of the DesiredPort. */
  readonly key: string;
  /** "namespace/name". */
  readonly service: string;
  /** Creation time of the Service; 0 if unknown, which sorts last. */
  readonly created: number;
}

interface Claim extends Claimant {
  readonly isNodePort: boolean;
}

/** A frontend that more than one Service port claims. */
export interface Conflict {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** Key of the DesiredPort that owns the frontend. */
  readonly owner: string;
  /** Keys of the first DesiredPorts that claim the frontend but do not own it, in order of precedence. */
  readonly contenders: readonly string[];
  /** Number of contenders that are not listed. */
  readonly more: number;
}

const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const compareClaims = (a: Claim, b: Claim): number =>
  Number(a.isNodePort) - Number(b.isNodePort) ||
  (a.created || Infinity) - (b.created || Infinity) ||
  compareText(a.service, b.service) ||
  compareText(a.key, b.key);

const ownersOf = (before: string | undefined, after: string | undefined): string[] =>
  before === after ? [] : [before, after].filter((key) => key !== undefined);

export class FrontendOwners {
  /** Claims by frontendKey(). Almost every frontend has one claim; a heap is made only for a contested frontend. */
  readonly #claims = new Map<string, Claim | ClaimHeap<Claim>>();
  readonly #contested = new Set<string>();
  /** By frontendKey(): the port in whose row the frontend may still be, for frontends whose owner has changed since they were settled. */
  readonly #lastOwners = new Map<string, string>();

  /** Adds or replaces the claim of the Service port. Returns the keys of the old and the new owner if the owner has changed. */
  add(frontend: Frontend, claimant: Claimant): readonly string[] {
    const key = frontendKey(frontend);
    const claim = { ...claimant, isNodePort: frontend.type === 'NodePort' };
    const present = this.#claims.get(key);
    if (present === undefined || (!(present instanceof ClaimHeap) && present.key === claim.key)) {
      this.#claims.set(key, claim);
      this.#noteOwner(key, present?.key, claim.key);
      return [];
    }
    const before = this.#ownerOf(key);
    const heap = present instanceof ClaimHeap ? present : new ClaimHeap<Claim>(compareClaims);
    if (!(present instanceof ClaimHeap)) heap.add(present);
    heap.add(claim);
    this.#claims.set(key, heap);
    this.#contested.add(key);
    this.#noteOwner(key, before, this.#ownerOf(key));
    return ownersOf(before, this.#ownerOf(key));
  }

  /** Removes the claim of the Service port, if there is one. Returns the keys of the old and the new owner if the owner has changed. */
  remove(frontend: Frontend, portKey: string): readonly string[] {
    const key = frontendKey(frontend);
    const claims = this.#claims.get(key);
    if (!(claims instanceof ClaimHeap)) {
      if (claims?.key !== portKey) return [];
      this.#claims.delete(key);
      this.#noteOwner(key, portKey, undefined);
      return [];
    }
    const before = this.#ownerOf(key);
    claims.remove(portKey);
    const { top } = claims;
    if (claims.size <= 1) {
      this.#contested.delete(key);
      if (top === undefined) this.#claims.delete(key);
      else this.#claims.set(key, top);
    }
    this.#noteOwner(key, before, top?.key);
    return ownersOf(before, top?.key);
  }

  /** Key of the DesiredPort that owns the frontend; undefined if no port claims it. */
  ownerOf(frontend: Frontend): string | undefined {
    return this.#ownerOf(frontendKey(frontend));
  }

  /** Key of the DesiredPort whose row may still have the frontend, if it is not the owner. */
  lastOwnerOf(frontend: Frontend): string | undefined {
    return this.#lastOwners.get(frontendKey(frontend));
  }

  /** The frontend is in the row of its owner, and in no other row. */
  settled(frontend: Frontend): void {
    this.#lastOwners.delete(frontendKey(frontend));
  }

  /** Every frontend is in the row of its owner, and in no other row. */
  allSettled(): void {
    this.#lastOwners.clear();
  }

  /** At most LISTED_CONFLICTS of the conflicts. The result is sorted by frontend. */
  conflicts(): Conflict[] {
    const listed = [...this.#contested.values().take(LISTED_CONFLICTS)].sort(compareText);
    return listed.flatMap((frontend) => this.#conflictOf(frontend));
  }

  /** Number of frontends that more than one Service port claims. */
  get conflictCount(): number {
    return this.#contested.size;
  }

  #conflictOf(frontend: string): Conflict[] {
    const claims = this.#claims.get(frontend);
    if (!(claims instanceof ClaimHeap)) return [];
    const [owner = '', ...contenders] = claims.first(1 + LISTED_CONTENDERS).map(({ key }) => key);
    return [{ frontend, owner, contenders, more: claims.size - 1 - contenders.length }];
  }

  #noteOwner(key: string, before: string | undefined, after: string | undefined): void {
    const last = this.#lastOwners.get(key) ?? before;
    if (last === undefined || last === after) this.#lastOwners.delete(key);
    else this.#lastOwners.set(key, last);
  }

  #ownerOf(key: string): string | undefined {
    const claims = this.#claims.get(key);
    return claims instanceof ClaimHeap ? claims.top?.key : claims?.key;
  }
}
