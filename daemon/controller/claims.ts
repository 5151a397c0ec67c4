// SPDX-License-Identifier: Apache-2.0
// Who owns a contested VIP. Every Service port claims its frontends here; the smallest claim wins (oldest Service, then
// name, then port: kube-proxy-semantics.md, 3.3), whatever the order in which claims came. Used by service-controller.ts only.
import { type Frontend, frontendKey } from '../model/frontend.ts';

export interface Claimant {
  /** Key of the DesiredPort. */
  readonly key: string;
  /** "namespace/name". */
  readonly service: string;
  /** Creation time of the Service; 0 = unknown, sorts last. */
  readonly created: number;
}

/** A frontend that several Service ports claim. */
export interface Conflict {
  /** "10.96.0.10:80/TCP/internal". */
  readonly frontend: string;
  /** Key of the DesiredPort that has it. */
  readonly owner: string;
  /** Keys of those that claim it in vain, next in line first. */
  readonly contenders: readonly string[];
}

const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));

const compareClaimants = (a: Claimant, b: Claimant): number =>
  (a.created || Infinity) - (b.created || Infinity) || compareText(a.service, b.service) || compareText(a.key, b.key);

export class Claims {
  // Sorted by compareClaimants, never empty.
  readonly #claimants = new Map<string, Claimant[]>();
  readonly #contested = new Set<string>();

  add(frontend: Frontend, claimant: Claimant): void {
    const key = frontendKey(frontend);
    const others = (this.#claimants.get(key) ?? []).filter((other) => other.key !== claimant.key);
    this.#set(key, [...others, claimant].sort(compareClaimants));
  }

  /** Removing a claim that was never made does nothing. */
  remove(frontend: Frontend, portKey: string): void {
    const key = frontendKey(frontend);
    this.#set(
      key,
      this.claimants(frontend).filter((other) => other.key !== portKey),
    );
  }

  isOwner(frontend: Frontend, portKey: string): boolean {
    return this.claimants(frontend)[0]?.key === portKey;
  }

  /** The owner first. */
  claimants(frontend: Frontend): readonly Claimant[] {
    return this.#claimants.get(frontendKey(frontend)) ?? [];
  }

  conflicts(): Conflict[] {
    const conflicts: Conflict[] = [];
    for (const frontend of [...this.#contested].sort(compareText)) {
      const [owner, ...contenders] = (this.#claimants.get(frontend) ?? []).map((claimant) => claimant.key);
      if (owner !== undefined) conflicts.push({ frontend, owner, contenders });
    }
    return conflicts;
  }

  #set(key: string, claimants: Claimant[]): void {
    if (claimants.length === 0) this.#claimants.delete(key);
    else this.#claimants.set(key, claimants);
    if (claimants.length > 1) this.#contested.add(key);
    else this.#contested.delete(key);
  }
}
