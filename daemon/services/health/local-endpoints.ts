// SPDX-License-Identifier: Apache-2.0
// The pure part of the health-check node ports (kube-proxy-semantics.md, 11): which Services have one, and how many ready
// endpoints a Service has on this node. Called by service-health.ts, which holds the sockets.
import type { EndpointSlice, SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { Service } from '../../model/service.ts';

/** Such a Service shall say its health on a port of its own; the port may still be missing (0). */
export function hasHealthCheck(service: Service): boolean {
  return service.type === 'LoadBalancer' && service.externalPolicy === 'Local' && service.ports.length > 0;
}

/**
 * Distinct addresses of ready endpoints on this node, over all ports of the slices and both families of the Service.
 * Ready is the slice's word: a terminating endpoint counts only where it is ready too (publishNotReadyAddresses).
 */
export function countLocalReady(service: Service, slices: Iterable<EndpointSlice>, nodeName: string): number {
  const copies = new Map<string, SliceEndpoint[]>();
  for (const slice of slices) {
    if (service.clusterIPs[slice.family] === undefined) continue;
    for (const port of slice.ports) {
      for (const endpoint of slice.endpoints) {
        const backend = `${endpoint.address} ${port.name} ${port.protocol} ${port.port}`;
        const others = copies.get(backend);
        if (others === undefined) copies.set(backend, [endpoint]);
        else others.push(endpoint);
      }
    }
  }
  const addresses = new Set<string>();
  for (const each of copies.values()) {
    // Of copies of one backend those that are not terminating count: the address has a new pod (8.5).
    const live = each.filter((endpoint) => !endpoint.terminating);
    const found = (live.length > 0 ? live : each).find((endpoint) => endpoint.ready && endpoint.nodeName === nodeName);
    if (found !== undefined) addresses.add(found.address);
  }
  return addresses.size;
}
