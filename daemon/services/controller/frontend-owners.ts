// SPDX-License-Identifier: Apache-2.0
// Decides which Service port owns a contested frontend. Every Service port claims its frontends here, and the first claim in
// the order of precedence wins: an exact address before a NodePort, then the oldest Service, then name and port
// (test/README.md, 3.1 and 3.3). The result does not depend on the order in which claims are made. Used by
// service-controller.ts.
import { type Frontend, frontendKey } from '../../model/frontend.ts';

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
  /** Keys of the DesiredPorts that claim the frontend but do not own it, in order of precedence. */
  readonly contenders: readonly string[];
}

const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const compareClaims = (a: Claim, b: Claim): number =>
  Number(a.isNodePort) - Number(b.isNodePort) ||
  (a.created || Infinity) - (b.created || Infinity) ||
  compareText(a.service, b.service) ||
  compareText(a.key, b.key);

export class FrontendOwners {
  /** By frontendKey(). Each list is sorted by compareClaims and not empty. */
  readonly #claims = new Map<string, Claim[]>();
  readonly #contested = new Set<string>();

  add(frontend: Frontend, claimant: Claimant): void {
    const key = frontendKey(frontend);
    const others = (this.#claims.get(key) ?? []).filter((other) => other.key !== claimant.key);
    this.#set(key, [...others, { ...claimant, isNodePort: frontend.type === 'NodePort' }].sort(compareClaims));
  }

  /** Removes the claim of the Service port, if there is one. */
  remove(frontend: Frontend, portKey: string): void {
    const key = frontendKey(frontend);
    const claims = this.#claims.get(key);
    if (claims === undefined) return;
    this.#set(
      key,
      claims.filter((other) => other.key !== portKey),
    );
  }

  isOwner(frontend: Frontend, portKey: string): boolean {
    return this.claimants(frontend)[0]?.key === portKey;
  }

  /** The Service ports that claim the frontend, in order of precedence. The first one owns it. */
  claimants(frontend: Frontend): readonly Claimant[] {
    return this.#claims.get(frontendKey(frontend)) ?? [];
  }

  conflicts(): Conflict[] {
    const conflicts: Conflict[] = [];
    for (const frontend of [...this.#contested].sort(compareText)) {
      const [owner, ...contenders] = (this.#claims.get(frontend) ?? []).map((claim) => claim.key);
      if (owner !== undefined) conflicts.push({ frontend, owner, contenders });
    }
    return conflicts;
  }

  #set(key: string, claims: Claim[]): void {
    if (claims.length === 0) this.#claims.delete(key);
    else this.#claims.set(key, claims);
    if (claims.length > 1) this.#contested.add(key);
    else this.#contested.delete(key);
  }
}
