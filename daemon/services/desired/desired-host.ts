// SPDX-License-Identifier: Apache-2.0
// This node, Service CIDRs and where ClusterIPs are -> what holds for every Service here: the DesiredHost row and the address
// sets but that of the ClusterIPs, which has a row for each Service (kube-proxy-semantics.md, 5, 6.4 and 9). Pure; computed
// whole, the controller writes the difference.
import { cidrBounds, type Family, familyOf, hostCidr } from '../../model/address.ts';
import { type DesiredHost, type DesiredRange, hostKey, type HostRow, type PodDetection, rangeKey } from '../../model/frontend.ts';
import type { ServiceCIDR } from '../../model/service-cidr.ts';
import { type AddressRanges, widened } from './cluster-ips.ts';
import { type NodeContext, nodeContext, type NodeInput } from './node-context.ts';

export interface HostInput extends NodeInput {
  /** From the lowest ClusterIP to the highest. */
  readonly clusterIPs: AddressRanges;
  readonly serviceCIDRs: Iterable<ServiceCIDR>;
}

/** Every row but those of the set clusterIP, by its key. */
export function desiredHost(input: HostInput): Map<string, HostRow> {
  const context = nodeContext(input);
  const pods = podRanges(input);
  const own = [...[...input.localAddresses].map(({ address }) => address), ...(input.node?.addresses ?? [])];
  const serviceCIDRs = [...input.settings.serviceCidr, ...[...input.serviceCIDRs].flatMap(({ cidrs }) => cidrs)];
  const ranges: DesiredRange[] = [
    ...own.map((address) => ({ set: 'node' as const, cidr: hostCidr(address) })),
    ...pods.map((cidr) => ({ set: 'pod' as const, cidr })),
    ...serviceCIDRs.map((cidr) => ({ set: 'serviceCIDR' as const, cidr })),
  ];
  const clusterRange = serviceCIDRs.map(cidrBounds).reduce(widened, input.clusterIPs);
  const rows = new Map<string, HostRow>([[hostKey, hostRow(input, { context, pods, clusterRange })]]);
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
  readonly clusterRange: AddressRanges;
}

function hostRow({ settings }: HostInput, { context, pods, clusterRange }: HostParts): DesiredHost {
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
