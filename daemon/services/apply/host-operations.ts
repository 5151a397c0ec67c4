// SPDX-License-Identifier: Apache-2.0
// Writes the row of lb_host: the settings that apply to every Service on this node. Idempotent; the in-memory copy changes only
// after the map call succeeded. It must never delete the row, so that the last settings stay in effect. Called by the Reconciler.
//
// Packets to a cluster address without a frontend are refused or dropped. While new maps are filled, that would hit Services that kube-proxy
// still serves, so the bounds of these addresses can be withheld until the Service ports are in the maps.
import { type HostMapValue, HostFlag, type LbMaps } from '../../maps/types.ts';
import { addressBytes, type Family } from '../../model/address.ts';
import type { DesiredHost } from '../../model/frontend.ts';
import type { Operations } from '../../table/reconciler.ts';

/** Properties of this host that come neither from a setting nor from an API object. */
export interface HostFacts {
  /** Cookie of the node's network namespace. It distinguishes sockets of the node from sockets of pods. */
  readonly netnsCookie: bigint;
  /** CLOCK_MONOTONIC in ns, which is also the clock of the datapath. */
  readonly now: () => bigint;
}

/** The unit of flow_now() in datapath/lib/clock.h: 2^32 ns. */
const FLOW_SHIFT = 32n;

export class HostOperations implements Operations<string, DesiredHost> {
  readonly #map: LbMaps['host'];
  readonly #facts: HostFacts;
  #applied: HostMapValue | undefined;
  /** When source addresses were last removed. */
  #removal: { readonly count: number; readonly at: number } | undefined;
  #row: DesiredHost | undefined;
  #areBoundsWithheld: boolean;

  /** `awaitsPorts`: the bounds of the cluster addresses are withheld until portsApplied(), unless the map has bounds from an earlier daemon. */
  constructor(maps: Pick<LbMaps, 'host'>, facts: HostFacts, { awaitsPorts = false } = {}) {
    this.#map = maps.host;
    this.#facts = facts;
    this.#areBoundsWithheld = awaitsPorts;
  }

  restore(): void {
    this.#applied = undefined;
    const before = this.#map.get(0);
    if (hasBounds(before)) this.#areBoundsWithheld = false;
    // Only an earlier daemon has written the row. Its time is kept, so that a restart with unchanged input writes nothing.
    if (before.netns !== 0n) this.#removal ??= { count: 0, at: before.sourcesChanged };
  }

  update(row: DesiredHost): void {
    if (this.#removal?.count !== row.removedSources) this.#removal = { count: row.removedSources, at: flowNow(this.#facts) };
    const served = this.#areBoundsWithheld ? { ...row, clusterRange: {} } : row;
    const value = hostValue(served, { netnsCookie: this.#facts.netnsCookie, sourcesChanged: this.#removal.at });
    if (!this.#map.holds(0, value)) this.#map.set(0, value);
    this.#applied = value;
    this.#row = row;
  }

  /** The Service ports are in the maps: writes the bounds. May throw KernelError. */
  portsApplied(): void {
    if (!this.#areBoundsWithheld) return;
    this.#areBoundsWithheld = false;
    if (this.#row !== undefined) this.update(this.#row);
  }

  delete(): void {
    // Does nothing: the row is kept, so that the last settings stay in effect.
  }

  prune(): boolean {
    return true;
  }

  *repair(): Generator<string[], void> {
    if (this.#applied === undefined || this.#map.holds(0, this.#applied)) return;
    this.#map.set(0, this.#applied);
    yield [`${this.#map.name}: row was changed`];
  }

  freed(): number {
    return 0;
  }

  freesAt(): undefined {
    return undefined;
  }
}

/** A row without bounds is all zeros, or the first address is greater than the last. */
const hasBounds = ({ cluster4First, cluster4Last, cluster6First, cluster6Last }: HostMapValue): boolean =>
  (cluster4First <= cluster4Last && cluster4Last > 0n) || (cluster6First <= cluster6Last && cluster6Last > 0n);

function hostFlags({ podDetection: { IPv4, IPv6 }, masqueradeAll, hasTc }: DesiredHost): number {
  const all: Readonly<Record<keyof typeof HostFlag, boolean>> = {
    ...{ detectCidr4: IPv4 === 'cidr', detectCidr6: IPv6 === 'cidr' },
    ...{ detectInterface4: IPv4 === 'interface', detectInterface6: IPv6 === 'interface' },
    ...{ masqueradeAll, tcPods: hasTc.pods, tcNode: hasTc.node },
  };
  return Object.entries(HostFlag).reduce((flags, [name, bit]) => (all[name as keyof typeof HostFlag] ? flags | bit : flags), 0);
}

const flowNow = ({ now }: HostFacts): number => Number(BigInt.asUintN(32, now() >> FLOW_SHIFT));

/** The row of lb_host. `sourcesChanged`: flow_now() when source addresses were last removed. */
export function hostValue(host: DesiredHost, facts: Pick<HostFacts, 'netnsCookie'> & { readonly sourcesChanged: number }): HostMapValue {
  const bound = (family: Family, end: 'first' | 'last'): bigint => {
    const address = host.clusterRange[family]?.[end];
    // Without addresses the range is empty: its first address is greater than its last address.
    if (address === undefined) return end === 'first' ? 2n ** 64n - 1n : 0n;
    const bytes = addressBytes(address);
    const upper = new DataView(bytes.buffer, bytes.byteOffset);
    return bytes.length === 4 ? BigInt(upper.getUint32(0)) : upper.getBigUint64(0);
  };
  const ports = host.snatPorts.map(({ first, last }) => ({ first, count: last - first + 1 }));
  return {
    address4: host.nodeAddresses.IPv4 ?? '0.0.0.0',
    flags: hostFlags(host),
    address6: host.nodeAddresses.IPv6 ?? '::',
    netns: facts.netnsCookie,
    ...{ cluster4First: bound('IPv4', 'first'), cluster4Last: bound('IPv4', 'last') },
    ...{ cluster6First: bound('IPv6', 'first'), cluster6Last: bound('IPv6', 'last') },
    snatFirst: [ports[0]?.first ?? 0, ports[1]?.first ?? 0],
    snatCount: [ports[0]?.count ?? 0, ports[1]?.count ?? 0],
    ...{ forwardMark: host.forwardMark, sourcesChanged: facts.sourcesChanged },
  };
}
