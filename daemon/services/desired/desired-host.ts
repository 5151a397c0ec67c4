// SPDX-License-Identifier: Apache-2.0
// Computes the DesiredHost row and the members of the address sets from this node, the Service CIDRs and the range of the
// ClusterIPs (test/README.md, 5, 6.4 and 9). The set of ClusterIPs is not computed here: host-controller.ts updates it one
// Service at a time. Pure. The result is always complete; host-controller.ts writes only the differences.
import { cidrBounds, cidrContains, type Family, familyOf, hostCidr } from '../../model/address.ts';
import type { DeviceRole, DeviceSettings } from '../../model/device.ts';
import { FORWARD_MARK } from '../../model/firewall.ts';
import { type DesiredHost, type DesiredRange, type PodDetection, rangeKey } from '../../model/frontend.ts';
import { type ServiceCIDR, serviceCidrProblem } from '../../model/service-cidr.ts';
import { type AddressRanges, widened } from './cluster-ips.ts';
import { type NodeContext, nodeContext, type NodeInput } from './node-context.ts';

export interface HostInput extends NodeInput {
  /** The range from the lowest to the highest ClusterIP. */
  readonly clusterIPs: AddressRanges;
  readonly serviceCIDRs: Iterable<ServiceCIDR>;
  /** The roles of the devices that have programs. Undefined if the devices are unknown, as in a dry run. */
  readonly deviceRoles?: ReadonlySet<DeviceRole> | undefined;
  /** As in DesiredHost. Default: 0. */
  readonly removedSources?: number;
  /** The result of noClusterIPs(). A Service CIDR that contains such an address is left out. Default: none. */
  readonly noClusterIPs?: ReadonlySet<string>;
}

export interface HostOutput {
  readonly host: DesiredHost;
  /** The members of all address sets except clusterIP, by rangeKey(). */
  readonly ranges: ReadonlyMap<string, DesiredRange>;
  /** Service CIDRs that are left out because of noClusterIPs. */
  readonly refusedCIDRs: readonly string[];
  /** One message for each other Service CIDR that contains addresses of this node or of pods. */
  readonly overlaps: readonly string[];
}

export function desiredHost(input: HostInput): HostOutput {
  const context = nodeContext(input);
  const pods = podRanges(input);
  const own = [...[...input.localAddresses].map(({ address }) => address), ...(input.node?.addresses ?? [])];
  const given = [...input.settings.serviceCidr, ...[...input.serviceCIDRs].flatMap(({ cidrs }) => cidrs)];
  const reserved = [...(input.noClusterIPs ?? [])];
  const refusedCIDRs = given.filter((cidr) => reserved.some((address) => cidrContains(cidr, address)));
  const serviceCIDRs = given.filter((cidr) => !refusedCIDRs.includes(cidr));
  const ranges: DesiredRange[] = [
    ...own.map((address) => ({ set: 'node' as const, cidr: hostCidr(address) })),
    ...pods.map((cidr) => ({ set: 'pod' as const, cidr })),
    ...serviceCIDRs.map((cidr) => ({ set: 'serviceCIDR' as const, cidr })),
  ];
  const clusterRange = serviceCIDRs.map(cidrBounds).reduce(widened, input.clusterIPs);
  return {
    host: hostRow(input, { context, pods, clusterRange }),
    ranges: new Map(ranges.map((range) => [rangeKey(range), range])),
    refusedCIDRs: [...new Set(refusedCIDRs)],
    overlaps: overlapsOf(serviceCIDRs, own, input),
  };
}

function overlapsOf(serviceCIDRs: readonly string[], own: readonly string[], { settings, node }: HostInput): string[] {
  const pods = [...settings.clusterCidr, ...(node?.podCIDRs ?? [])];
  return [...new Set(serviceCIDRs)].flatMap((cidr) => serviceCidrProblem(cidr, { own, pods }) ?? []);
}

/** CIDRs of local pods. Empty if local pods are recognised by their interface, or not at all. */
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

function hostRow({ settings, deviceRoles, removedSources = 0 }: HostInput, { context, pods, clusterRange }: HostParts): DesiredHost {
  const detection = (family: Family): PodDetection => {
    if (settings.detectLocalMode === 'InterfaceNamePrefix') return 'interface';
    // A family without a range has no detector (test/README.md, 9).
    return pods.some((cidr) => familyOf(cidr) === family) ? 'cidr' : 'none';
  };
  const podDetection = { IPv4: detection('IPv4'), IPv6: detection('IPv6') };
  const { masqueradeAll, snatPorts, podInterfaces, uplinks, acceptForwarded } = settings;
  const forwardMark = acceptForwarded ? FORWARD_MARK : 0;
  // The programs of found devices count only while there is such a device. Otherwise no program would translate the UDP sockets of pods
  // that are not behind a pod interface (macvlan, ipvlan, SR-IOV), because the socket hooks leave these sockets to the programs.
  const has = (setting: DeviceSettings['uplinks'], role: DeviceRole): boolean =>
    setting === 'auto' ? (deviceRoles?.has(role) ?? true) : setting.length > 0;
  const hasTc = { pods: has(podInterfaces, 'pod'), node: has(uplinks, 'uplink') };
  return { nodeAddresses: context.primaryIPs, podDetection, masqueradeAll, snatPorts, hasTc, forwardMark, removedSources, clusterRange };
}

/** True if both rows have the same content. */
export const isSameHost = (a: DesiredHost, b: DesiredHost): boolean => JSON.stringify(a) === JSON.stringify(b);
