// SPDX-License-Identifier: Apache-2.0
// Computes the DesiredPort rows of one Service from the Service, its EndpointSlices and this node. Pure; the result does not
// depend on the order of the input. Called by the controllers for one Service at a time. It must not decide which Service
// owns a contested VIP, because it knows only one Service.
import { type Family, families } from '../../model/address.ts';
import type { DesiredPort } from '../../model/frontend.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import type { Service, ServicePort } from '../../model/service.ts';
import { backendsOf, endpointsOf } from './endpoints.ts';
import { frontendsOf, sourceRangesOf } from './frontends.ts';
import type { NodeContext } from './node-context.ts';

/**
 * The rows of a Service: for each family in which it has a ClusterIP, one row per Service port, with every frontend that the port claims.
 * `slices` are the EndpointSlices of the Service.
 */
export function desiredPorts(service: Service, slices: readonly EndpointSlice[], node: NodeContext): DesiredPort[] {
  const rows = new Map<string, DesiredPort>();
  for (const family of families) {
    if (service.clusterIPs[family] === undefined) continue;
    const sourceRanges = sourceRangesOf(service, family, node.primaryIPs[family]);
    for (const port of service.ports) {
      const key = portKey(service, port, family);
      // The API server rejects two ports with the same name and protocol. In a file they are possible; the first one is used.
      if (rows.has(key)) continue;
      const frontends = frontendsOf(service, port, { family, node });
      const hasLocalPolicy = frontends.some((frontend) => frontend.policy === 'Local');
      rows.set(key, {
        ...{ key, namespace: service.namespace, name: service.name, portName: port.name, protocol: port.protocol, family },
        frontends,
        backends: backendsOf(endpointsOf(port, slices, family), { node, hasLocalPolicy }),
        affinitySeconds: service.affinitySeconds,
        sourceRanges: frontends.some((frontend) => frontend.hasSourceRanges) ? sourceRanges : [],
      });
    }
  }
  return [...rows.values()];
}

/** "namespace/name:portName/TCP/IPv4". */
export function portKey(service: { namespace: string; name: string }, port: ServicePort, family: Family): string {
  return `${service.namespace}/${service.name}:${port.name}/${port.protocol}/${family}`;
}
