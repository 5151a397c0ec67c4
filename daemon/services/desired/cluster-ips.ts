// SPDX-License-Identifier: Apache-2.0
// The ClusterIPs of all Services that have a port. The set is updated one Service at a time, so the cost of a change does not
// depend on the number of Services. Used by host-controller.ts; it reads and writes no table.
import { compareAddresses, type Family, familyOf } from '../../model/address.ts';
import type { Service } from '../../model/service.ts';

/** The lowest and the highest address of each family; both are in the range. */
export type AddressRanges = Partial<Record<Family, { readonly first: string; readonly last: string }>>;

export class ClusterIPs {
  readonly #ofService = new Map<string, readonly string[]>();
  /** For each address, the number of Services that have it. It can be 2 for a short time, while an address moves between Services. */
  readonly #counts = new Map<string, number>();
  #bounds: AddressRanges | undefined;

  /** Records the current state of a Service; undefined if it was deleted. Returns its previous and its current addresses. */
  set(serviceKey: string, service: Service | undefined): readonly string[] {
    const before = this.#ofService.get(serviceKey) ?? [];
    const after = service === undefined || service.ports.length === 0 ? [] : Object.values(service.clusterIPs);
    if (after.length === 0) this.#ofService.delete(serviceKey);
    else this.#ofService.set(serviceKey, after);
    for (const address of after) this.#add(address);
    for (const address of before) this.#remove(address);
    return [...before, ...after];
  }

  has(address: string): boolean {
    return this.#counts.has(address);
  }

  /** The range from the lowest to the highest address of each family. A family without addresses is absent. */
  bounds(): AddressRanges {
    this.#bounds ??= boundsOf(this.#counts.keys());
    return this.#bounds;
  }

  #add(address: string): void {
    this.#counts.set(address, (this.#counts.get(address) ?? 0) + 1);
    if (this.#bounds !== undefined) this.#bounds = widened(this.#bounds, { first: address, last: address });
  }

  #remove(address: string): void {
    const count = this.#counts.get(address) ?? 0;
    if (count > 1) {
      this.#counts.set(address, count - 1);
      return;
    }
    this.#counts.delete(address);
    // Only the removal of the lowest or the highest address can change the range. All addresses are scanned in that case.
    const { first, last } = this.#bounds?.[familyOf(address)] ?? {};
    if (address === first || address === last) this.#bounds = undefined;
  }
}

/** The ranges, extended to cover `range`. Both ends of `range` have the same family. */
export function widened(ranges: AddressRanges, range: { readonly first: string; readonly last: string }): AddressRanges {
  const family = familyOf(range.first);
  const before = ranges[family];
  if (before === undefined) return { ...ranges, [family]: range };
  const first = compareAddresses(range.first, before.first) < 0 ? range.first : before.first;
  const last = compareAddresses(range.last, before.last) > 0 ? range.last : before.last;
  return { ...ranges, [family]: { first, last } };
}

function boundsOf(addresses: Iterable<string>): AddressRanges {
  let bounds: AddressRanges = {};
  for (const address of addresses) bounds = widened(bounds, { first: address, last: address });
  return bounds;
}
