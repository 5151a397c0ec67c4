// SPDX-License-Identifier: Apache-2.0
// Computes the frontends that a Service port claims in one family, with their traffic policy and source ranges
// (test/README.md, 2, 4 and 6). Pure. It knows only one Service and does not decide who owns a contested frontend.
// Called by desired-ports.ts.
import { cidrContains, type Family, familyOf, hostCidr } from '../../model/address.ts';
import { type Frontend, frontendKey, type FrontendType } from '../../model/frontend.ts';
import type { HostSettings } from '../../model/host.ts';
import type { Service, ServicePort, TrafficPolicy } from '../../model/service.ts';
import { capturesApiServer } from './api-servers.ts';
import type { NodeContext } from './node-context.ts';

/** The frontends that the Service port claims, without those that would take over the connection to the API server. */
export function frontendsOf(service: Service, port: ServicePort, at: { family: Family; node: NodeContext }): Frontend[] {
  const claimed = claimedFrontends(service, port, at);
  const { apiServerPlaces: places } = at.node;
  return places.length === 0 ? claimed : claimed.filter((frontend) => !capturesApiServer(service, frontend, places));
}

/**
 * The frontends, each address:port/protocol once. If an address has several roles, the first of these is used: ClusterIP, load
 * balancer address, external IP, NodePort.
 */
export function claimedFrontends(service: Service, port: ServicePort, { family, node }: { family: Family; node: NodeContext }): Frontend[] {
  const found = new Map<string, Frontend>();
  const external = externalPolicyOf(service);
  const hasRanges = ofFamily(service.sourceRanges, family).length > 0;
  const add = (type: FrontendType, addresses: readonly string[]): void => {
    for (const address of addresses) {
      const frontend: Frontend = {
        ...{ address, family, port: type === 'NodePort' ? port.nodePort : port.port, protocol: port.protocol, type },
        policy: type === 'ClusterIP' ? service.internalPolicy : external,
        hasSourceRanges: type === 'LoadBalancer' && hasRanges,
      };
      const key = frontendKey(frontend);
      if (!found.has(key)) found.set(key, frontend);
    }
  };
  const clusterIP = service.clusterIPs[family];
  if (clusterIP === undefined) return [];
  add('ClusterIP', [clusterIP]);
  add('LoadBalancer', ofFamily(service.loadBalancerIPs, family));
  const isServed = (address: string): boolean => isServedExternalIP(address, node.externalIps);
  add('ExternalIP', ofFamily(service.externalIPs, family).filter(isServed));
  if (port.nodePort !== 0) add('NodePort', node.nodePortAddresses[family]);
  return [...found.values()];
}

/** Whether the setting --external-ips includes the address. */
export const isServedExternalIP = (address: string, setting: HostSettings['externalIps']): boolean =>
  setting === 'on' || (setting !== 'off' && setting.some((cidr) => cidrContains(cidr, address)));

/** The external policy Local applies only to Services that accept traffic from outside the cluster (test/README.md, 6.3). */
function externalPolicyOf({ type, externalIPs, externalPolicy }: Service): TrafficPolicy {
  return type !== 'ClusterIP' || externalIPs.length > 0 ? externalPolicy : 'Cluster';
}

/**
 * Sources that may reach the load balancer addresses of a family; empty means all. If the node is admitted, the Service's own
 * load balancer addresses are admitted too: a node that connects to a VIP bound to itself uses the VIP as its source address
 * (test/README.md, 4.5).
 */
export function sourceRangesOf(service: Service, family: Family, primaryIP: string | undefined): readonly string[] {
  const ranges = ofFamily(service.sourceRanges, family);
  const admitsNode = primaryIP !== undefined && ranges.some((range) => cidrContains(range, primaryIP));
  const own = admitsNode ? ofFamily(service.loadBalancerIPs, family).map(hostCidr) : [];
  return [...new Set([...ranges, ...own])].toSorted();
}

const ofFamily = (texts: readonly string[], family: Family): string[] => texts.filter((text) => familyOf(text) === family);
