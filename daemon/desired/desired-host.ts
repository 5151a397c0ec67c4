// SPDX-License-Identifier: Apache-2.0
// Services, Service CIDRs and this node -> what holds for every Service here: the DesiredHost row and the address sets
// (kube-proxy-semantics.md, 5, 6.4 and 9). Pure; the whole is computed at once, the controller writes the difference.
import { cidrBounds, compareAddresses, families, type Family, familyOf, hostCidr } from '../model/address.ts';
import { type DesiredHost, type DesiredRange, hostKey, type HostRow, type PodDetection, rangeKey } from '../model/frontend.ts';
import type { Service, ServiceCIDR } from '../model/service.ts';
import { type NodeContext, nodeContext, type NodeInput } from './node-context.ts';

export interface HostInput extends NodeInput {
  readonly services: Iterable<Service>;
  readonly serviceCIDRs: Iterable<ServiceCIDR>;
}

/** Every row by its key. */
export function desiredHost(input: HostInput): Map<string, HostRow> {
  const context = nodeContext(input);
  const pods = podRanges(input);
  const clusterIPs = [...input.services].filter(({ ports }) => ports.length > 0).flatMap((service) => Object.values(service.clusterIPs));
  const own = [...[...input.localAddresses].map(({ address }) => address), ...(input.node?.addresses ?? [])];
  const serviceCIDRs = [...input.settings.serviceCidr, ...[...input.serviceCIDRs].flatMap(({ cidrs }) => cidrs)];
  const ranges: DesiredRange[] = [
    ...own.map((address) => ({ set: 'node' as const, cidr: hostCidr(address) })),
    ...pods.map((cidr) => ({ set: 'pod' as const, cidr })),
    ...clusterIPs.map((address) => ({ set: 'clusterIP' as const, cidr: hostCidr(address) })),
    ...serviceCIDRs.map((cidr) => ({ set: 'serviceCIDR' as const, cidr })),
  ];
  const rows = new Map<string, HostRow>([
    [hostKey, hostRow(input, { context, pods, cluster: [...clusterIPs.map(hostCidr), ...serviceCIDRs] })],
  ]);
  for (const range of ranges) rows.set(rangeKey(range), range);
  return rows;
}

/** Where local pods are; nowhere when they are told by the interface, or not at all. */
function podRanges({ settings, node }: HostInput): readonly string[] {
  switch (settings.detectLocalMode) {
    case 'ClusterCIDR':
      return settings.clusterCidr;
    case 'NodeCIDR':
      return node?.podCIDRs ?? [];
    case 'InterfaceNamePrefix':
    case 'none':
      return [];
  }
}

interface HostParts {
  readonly context: NodeContext;
  readonly pods: readonly string[];
  readonly cluster: readonly string[];
}

function hostRow({ settings }: HostInput, { context, pods, cluster }: HostParts): DesiredHost {
  const clusterRange: Partial<Record<Family, { first: string; last: string }>> = {};
  for (const family of families) {
    const bounds = cluster.filter((cidr) => familyOf(cidr) === family).map(cidrBounds);
    const [start, ...others] = bounds;
    if (start === undefined) continue;
    const first = others.reduce((least, each) => (compareAddresses(each.first, least) < 0 ? each.first : least), start.first);
    const last = others.reduce((most, each) => (compareAddresses(each.last, most) > 0 ? each.last : most), start.last);
    clusterRange[family] = { first, last };
  }
  const detection = (family: Family): PodDetection => {
    if (settings.detectLocalMode === 'InterfaceNamePrefix') return 'interface';
    // Without a range of a family there is no detector for it (9).
    return pods.some((cidr) => familyOf(cidr) === family) ? 'cidr' : 'none';
  };
  const podDetection = { IPv4: detection('IPv4'), IPv6: detection('IPv6') };
  return { nodeAddresses: context.primaryIPs, podDetection, masqueradeAll: settings.masqueradeAll, clusterRange };
}

/** True when the two rows, of one key, say the same. */
export function isSameHostRow(a: HostRow, b: HostRow): boolean {
  // A range is all in its key.
  if ('set' in a || 'set' in b) return 'set' in a === 'set' in b;
  return JSON.stringify(a) === JSON.stringify(b);
}
