// SPDX-License-Identifier: Apache-2.0
// The rules of the health-check node ports (test/README.md, 11): which Services have one, and how many ready endpoints a
// Service has on this node. Pure. Called by service-health.ts, which opens the ports.
import type { EndpointSlice, SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { Service } from '../../model/service.ts';

/** True if the Service must have a health-check node port. The number of the port may still be missing (0). */
export function hasHealthCheck(service: Service): boolean {
  return service.type === 'LoadBalancer' && service.externalPolicy === 'Local' && service.ports.length > 0;
}

/** The health-check node port of the Service; 0 if it must have none, or if its number is missing. */
export const healthCheckPort = (service: Service | undefined): number =>
  service !== undefined && hasHealthCheck(service) ? service.healthCheckNodePort : 0;

/**
 * Number of distinct addresses of ready endpoints on this node, over all ports of the slices and all families of the Service.
 * The condition "ready" of the slice decides: a terminating endpoint counts only if it is also ready (publishNotReadyAddresses).
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
    // The slices may contain a backend several times. If one of these copies is not terminating, the terminating copies do not
    // count: the address belongs to a new pod (test/README.md, 8.5).
    const live = each.filter((endpoint) => !endpoint.terminating);
    const found = (live.length > 0 ? live : each).find((endpoint) => endpoint.ready && endpoint.nodeName === nodeName);
    if (found !== undefined) addresses.add(found.address);
  }
  return addresses.size;
}
