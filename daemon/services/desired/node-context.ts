// SPDX-License-Identifier: Apache-2.0
// The properties of this node that desired rows depend on: its primary addresses, its NodePort addresses, its zone
// and the addresses that it must not serve. Pure.
// Equal contexts give equal rows, so the controllers recompute all Services only when the context changes.
import { cidrContains, compareAddresses, families, type Family, familyOf, isLinkLocal, isLoopback } from '../../model/address.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
import type { Node } from '../../model/node.ts';

/** Values by IP family, at most one per family. */
export type ByFamily<T> = Readonly<Partial<Record<Family, T>>>;

export interface NodeContext {
  readonly nodeName: string;
  /** Zone of the node; undefined if the node has no zone label. */
  readonly zone: string | undefined;
  readonly primaryIPs: ByFamily<string>;
  /** Addresses that serve NodePorts, sorted by value. */
  readonly nodePortAddresses: Readonly<Record<Family, readonly string[]>>;
  readonly externalIps: HostSettings['externalIps'];
  /** The result of apiServerPlaces(). No Service is served at these destinations. */
  readonly apiServerPlaces: readonly string[];
}

export interface NodeInput {
  readonly nodeName: string;
  /** The Node object; undefined while it does not exist. */
  readonly node: Node | undefined;
  readonly localAddresses: Iterable<LocalAddress>;
  readonly settings: HostSettings;
  /** Default: none. */
  readonly apiServerPlaces?: readonly string[];
}

export function nodeContext({ nodeName, node, localAddresses, settings, apiServerPlaces = [] }: NodeInput): NodeContext {
  const local = [...localAddresses];
  const primaryIPs: Partial<Record<Family, string>> = {};
  const nodePortAddresses: Record<Family, readonly string[]> = { IPv4: [], IPv6: [] };
  for (const family of families) {
    const primary = primaryOf(family, node, local);
    if (primary !== undefined) primaryIPs[family] = primary;
    const own = local.map(({ address }) => address).filter((address) => familyOf(address) === family);
    nodePortAddresses[family] = nodePortsOn({ family, own, primary }, settings.nodePortAddresses);
  }
  const zone = node?.labels['topology.kubernetes.io/zone'];
  const { externalIps } = settings;
  return { nodeName, zone: zone === '' ? undefined : zone, primaryIPs, nodePortAddresses, externalIps, apiServerPlaces };
}

/**
 * The first address of the family in the Node object. If there is none, the first global address of the device with the lowest index, so
 * that a node without a Node object works too.
 */
function primaryOf(family: Family, node: Node | undefined, local: readonly LocalAddress[]): string | undefined {
  const named = node?.addresses.find((address) => familyOf(address) === family);
  if (named !== undefined) return named;
  const global = local.filter(({ address }) => familyOf(address) === family && !isLoopback(address) && !isLinkLocal(address));
  return global.toSorted((a, b) => a.ifindex - b.ifindex || compareAddresses(a.address, b.address))[0]?.address;
}

interface OwnAddresses {
  readonly family: Family;
  readonly own: readonly string[];
  readonly primary: string | undefined;
}

/**
 * The addresses that serve NodePorts: the primary address for the setting `primary`, otherwise the addresses in the CIDRs of the
 * setting. If the setting has no CIDR of the family, or one with prefix length 0, all addresses serve NodePorts, except loopback
 * addresses (test/README.md, 2).
 */
function nodePortsOn({ family, own, primary }: OwnAddresses, setting: HostSettings['nodePortAddresses']): string[] {
  if (setting === 'primary') return primary === undefined ? [] : [primary];
  const all = [...new Set(own)].filter((address) => !isLoopback(address)).toSorted(compareAddresses);
  const cidrs = setting === 'all' ? [] : setting.filter((cidr) => familyOf(cidr) === family);
  if (cidrs.length === 0 || cidrs.some((cidr) => cidr.endsWith('/0'))) return all;
  return all.filter((address) => cidrs.some((cidr) => cidrContains(cidr, address)));
}
