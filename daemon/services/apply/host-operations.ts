// SPDX-License-Identifier: Apache-2.0
// Makes the maps hold what is true for every Service on this node: the row of lb_host and the address sets in the tries.
// The sets of Service ports (source ranges) share the tries and are lb-operations.ts's. Every operation is idempotent; our
// memory changes only after the map call succeeded.
import { addressBytes, type Family, families, familyOf } from '../../model/address.ts';
import { type DesiredHost, type DesiredRange, type HostRow, rangeKey } from '../../model/frontend.ts';
import type { TableView } from '../../table/table.ts';
import { AddressSetNumber, HostFlag, type HostMapValue, type LbMaps, type RangeMapKey } from '../../maps/types.ts';
import type { MapPressure } from './lb-operations.ts';
import type { Operations } from '../../table/reconciler.ts';
import { cidrText, rangeMapKey } from '../../maps/rows.ts';

/** What no API object says. */
export interface HostFacts {
  /** Cookie of the node's network namespace: tells its own sockets from pods'. */
  readonly netnsCookie: bigint;
  /** tc programs are on the pods' interfaces; on the uplinks. */
  readonly hasTc: { readonly pods: boolean; readonly node: boolean };
  /** One or two ranges of source ports for masqueraded flows. */
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
}

/** rangeKey() of what a trie holds; undefined for a Service port's range. */
function keyOf(held: RangeMapKey): string | undefined {
  const set = Object.entries(AddressSetNumber).find(([, number]) => number === held.set)?.[0] as DesiredRange['set'] | undefined;
  return set === undefined ? undefined : rangeKey({ set, cidr: cidrText(held) });
}

interface HeldRange {
  readonly family: Family;
  readonly key: RangeMapKey;
}

export class HostOperations implements Operations<string, HostRow> {
  readonly #maps: LbMaps;
  readonly #facts: HostFacts;
  /** By rangeKey(): what the tries hold of ours. */
  readonly #held = new Map<string, HeldRange>();
  #host: HostMapValue | undefined;
  #freed = 0;

  constructor(maps: LbMaps, facts: HostFacts) {
    this.#maps = maps;
    this.#facts = facts;
  }

  restore(): void {
    this.#held.clear();
    for (const family of families) {
      for (const key of this.#maps.ranges[family].entries()) {
        const text = keyOf(key);
        if (text !== undefined) this.#held.set(text, { family, key });
      }
    }
  }

  update(row: HostRow): void {
    if (!('set' in row)) {
      const value = hostValue(row, this.#facts);
      this.#maps.host.set(0, value);
      this.#host = value;
      return;
    }
    if (this.#held.has(rangeKey(row))) return;
    const held = { family: familyOf(row.cidr), key: rangeMapKey(AddressSetNumber[row.set], row.cidr) };
    this.#maps.ranges[held.family].add(held.key);
    this.#held.set(rangeKey(row), held);
  }

  delete(key: string): void {
    const held = this.#held.get(key);
    // The row "host" has no absence: what it last said stays.
    if (held === undefined) return;
    this.#maps.ranges[held.family].remove(held.key);
    this.#held.delete(key);
    this.#freed += 1;
  }

  prune(rows: TableView<string, HostRow>): boolean {
    for (const key of [...this.#held.keys()]) if (rows.get(key) === undefined) this.delete(key);
    return true;
  }

  *mend(): Generator<string[], void> {
    const found = new Set<string>();
    const strangers: HeldRange[] = [];
    for (const family of families) {
      for (const key of this.#maps.ranges[family].entries()) {
        const text = keyOf(key);
        if (text !== undefined && this.#held.has(text)) found.add(text);
        else if (text !== undefined) strangers.push({ family, key });
      }
    }
    // Rows come and go where this walk pauses: each is asked for once more.
    for (const [text, held] of [...this.#held]) {
      if (found.has(text) || this.#held.get(text) !== held) continue;
      const { family, key } = held;
      this.#maps.ranges[family].add(key);
      yield [`${this.#maps.ranges[family].name} had lost ${text}`];
    }
    for (const { family, key } of strangers) {
      if (this.#held.has(keyOf(key) ?? '')) continue;
      this.#maps.ranges[family].remove(key);
      yield [`${this.#maps.ranges[family].name} had ${keyOf(key)}, which is nobody's`];
    }
    if (this.#host !== undefined && !isSame(this.#maps.host.get(0), this.#host)) {
      this.#maps.host.set(0, this.#host);
      yield [`${this.#maps.host.name} had been changed`];
    }
  }

  /** Of the tries, what is held here. */
  pressure(): MapPressure[] {
    const counts = new Map<Family, number>();
    for (const { family } of this.#held.values()) counts.set(family, (counts.get(family) ?? 0) + 1);
    return families.map((family) => {
      const { name, capacity } = this.#maps.ranges[family];
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

const text = (value: HostMapValue): string => JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each));
const isSame = (a: HostMapValue, b: HostMapValue): boolean => text(a) === text(b);

function hostFlags({ podDetection: { IPv4, IPv6 }, masqueradeAll }: DesiredHost, { hasTc }: HostFacts): number {
  const all: Readonly<Record<keyof typeof HostFlag, boolean>> = {
    ...{ detectCidr4: IPv4 === 'cidr', detectCidr6: IPv6 === 'cidr' },
    ...{ detectInterface4: IPv4 === 'interface', detectInterface6: IPv6 === 'interface' },
    ...{ masqueradeAll, tcPods: hasTc.pods, tcNode: hasTc.node },
  };
  return Object.entries(HostFlag).reduce((flags, [name, bit]) => (all[name as keyof typeof HostFlag] ? flags | bit : flags), 0);
}

/** The row of lb_host. */
export function hostValue(host: DesiredHost, facts: HostFacts): HostMapValue {
  const bound = (family: Family, end: 'first' | 'last'): bigint => {
    const address = host.clusterRange[family]?.[end];
    // Nothing lies between the greatest and the smallest.
    if (address === undefined) return end === 'first' ? 2n ** 64n - 1n : 0n;
    const bytes = addressBytes(address);
    const upper = new DataView(bytes.buffer, bytes.byteOffset);
    return bytes.length === 4 ? BigInt(upper.getUint32(0)) : upper.getBigUint64(0);
  };
  const ports = facts.snatPorts.map(({ first, last }) => ({ first, count: last - first + 1 }));
  return {
    address4: host.nodeAddresses.IPv4 ?? '0.0.0.0',
    flags: hostFlags(host, facts),
    address6: host.nodeAddresses.IPv6 ?? '::',
    netns: facts.netnsCookie,
    ...{ cluster4First: bound('IPv4', 'first'), cluster4Last: bound('IPv4', 'last') },
    ...{ cluster6First: bound('IPv6', 'first'), cluster6Last: bound('IPv6', 'last') },
    snatFirst: [ports[0]?.first ?? 0, ports[1]?.first ?? 0],
    snatCount: [ports[0]?.count ?? 0, ports[1]?.count ?? 0],
  };
}
