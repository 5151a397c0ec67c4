// SPDX-License-Identifier: Apache-2.0
// Decides what must not be served because it would take over this agent's own connection to the API server: an agent that loses the
// API server to a Service cannot learn that the Service was deleted. The ClusterIP of default/kubernetes is the API server itself
// and is always served. Pure. Used by the controllers and by frontends.ts.
import { type Family, hostPort, isLoopback } from '../../model/address.ts';
import type { ApiServerAddress } from '../../model/api-server.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import type { Frontend } from '../../model/frontend.ts';
import type { LocalAddress } from '../../model/host.ts';
import { objectKey } from '../../model/object-key.ts';
import type { Service } from '../../model/service.ts';
import { endpointsOf } from './endpoints.ts';

/** Key of the Service that the control plane creates for itself. */
export const kubernetesService = 'default/kubernetes';

export interface ApiServerInput {
  /** Addresses at which this agent reaches the API server. */
  readonly apiServers: Iterable<ApiServerAddress>;
  readonly localAddresses: Iterable<LocalAddress>;
  /** The Service default/kubernetes and its slices; undefined if it does not exist. */
  readonly kubernetes: Service | undefined;
  readonly slices: readonly EndpointSlice[];
}

/**
 * "address:port" of every destination that a packet to the API server can have on this node, sorted. These are the given addresses. If a
 * given address is the ClusterIP of default/kubernetes, the endpoints of this Service are included, because packets that are translated to
 * an endpoint are looked up again. If a given address is loopback, all addresses of the node are included, because other nodes reach the
 * same server there.
 */
export function apiServerPlaces({ apiServers, localAddresses, kubernetes, slices }: ApiServerInput): readonly string[] {
  const places = new Set<string>();
  const local = [...localAddresses];
  for (const { address, port } of apiServers) {
    places.add(hostPort(address, port));
    if (isLoopback(address)) for (const own of local) places.add(hostPort(own.address, port));
  }
  for (const [family, address] of Object.entries(kubernetes?.clusterIPs ?? {}) as [Family, string][]) {
    for (const port of kubernetes?.ports ?? []) {
      if (port.protocol !== 'TCP' || !places.has(hostPort(address, port.port))) continue;
      for (const copy of endpointsOf(port, slices, family)) places.add(hostPort(copy.endpoint.address, copy.port));
    }
  }
  return [...places].toSorted();
}

/** Whether the frontend would take over a connection to one of `places`, the result of apiServerPlaces(). */
export function capturesApiServer(service: Service, frontend: Frontend, places: readonly string[]): boolean {
  if (frontend.protocol !== 'TCP' || !places.includes(hostPort(frontend.address, frontend.port))) return false;
  return frontend.type !== 'ClusterIP' || objectKey(service) !== kubernetesService;
}

/**
 * Addresses of the API server that must not become ClusterIPs. Otherwise the datapath would refuse packets to a port of a ClusterIP that
 * its Service does not have, and drop packets to an address of a Service CIDR that no Service has.
 */
export function noClusterIPs(apiServers: Iterable<ApiServerAddress>, kubernetes: Service | undefined): ReadonlySet<string> {
  const addresses = new Set([...apiServers].map(({ address }) => address));
  for (const address of Object.values(kubernetes?.clusterIPs ?? {})) addresses.delete(address);
  return addresses;
}
