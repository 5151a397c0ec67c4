// SPDX-License-Identifier: Apache-2.0
// What desired rows take from this node: its primary addresses, the addresses of its NodePorts, its zone. Pure; an equal
// context means equal rows, so the controllers recompute when it differs and only then.
import { cidrContains, compareAddresses, families, type Family, familyOf } from '../../model/address.ts';
import type { HostSettings, LocalAddress } from '../../model/host.ts';
import type { Node } from '../../model/node.ts';

/** One address of each family, at most. */
export type ByFamily<T> = Readonly<Partial<Record<Family, T>>>;

export interface NodeContext {
  readonly nodeName: string;
  /** Undefined: the node is in no zone. */
  readonly zone: string | undefined;
  readonly primaryIPs: ByFamily<string>;
  /** On which NodePorts are served, sorted by value. */
  readonly nodePortAddresses: Readonly<Record<Family, readonly string[]>>;
}

export interface NodeInput {
  readonly nodeName: string;
  /** Undefined while the object is not there. */
  readonly node: Node | undefined;
  readonly localAddresses: Iterable<LocalAddress>;
  readonly settings: HostSettings;
}

export function nodeContext({ nodeName, node, localAddresses, settings }: NodeInput): NodeContext {
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
  return { nodeName, zone: zone === '' ? undefined : zone, primaryIPs, nodePortAddresses };
}

/** The Node object's first of the family; without one the first that a device got, so that a node without object works too. */
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

/** Kube-proxy-semantics.md, 2: a family that the list does not name gets all; a zero CIDR is all; loopback never. */
function nodePortsOn({ family, own, primary }: OwnAddresses, setting: HostSettings['nodePortAddresses']): string[] {
  if (setting === 'primary') return primary === undefined ? [] : [primary];
  const all = [...new Set(own)].filter((address) => !isLoopback(address)).toSorted(compareAddresses);
  const cidrs = setting === 'all' ? [] : setting.filter((cidr) => familyOf(cidr) === family);
  if (cidrs.length === 0 || cidrs.some((cidr) => cidr.endsWith('/0'))) return all;
  return all.filter((address) => cidrs.some((cidr) => cidrContains(cidr, address)));
}

const isLoopback = (address: string): boolean => cidrContains('127.0.0.0/8', address) || address === '::1';
const isLinkLocal = (address: string): boolean => cidrContains('169.254.0.0/16', address) || cidrContains('fe80::/10', address);
