// SPDX-License-Identifier: Apache-2.0
// The ClusterIPs of all Services with a port, kept up one Service at a time: a change costs what it changes, however many
// Services there are. Written by host-controller.ts only; knows no table.
import { compareAddresses, type Family, familyOf } from '../../model/address.ts';
import type { Service } from '../../model/service.ts';

/** Inclusive. */
export type AddressRanges = Partial<Record<Family, { readonly first: string; readonly last: string }>>;

export class ClusterIPs {
  readonly #ofService = new Map<string, readonly string[]>();
  /** How many Services have an address: for a while it may be two. */
  readonly #counts = new Map<string, number>();
  #bounds: AddressRanges | undefined;

  /** What the Service is now; undefined when it is gone. Returns the addresses that it had or has. */
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

  /** From the lowest to the highest, for each family that has any. */
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
    // Only who stood at an end may move it; then, and only then, all are looked at.
    const { first, last } = this.#bounds?.[familyOf(address)] ?? {};
    if (address === first || address === last) this.#bounds = undefined;
  }
}

/** With room for that range as well. Both ends are of one family. */
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
