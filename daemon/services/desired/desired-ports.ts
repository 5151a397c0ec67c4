// SPDX-License-Identifier: Apache-2.0
// Service x EndpointSlices x this node -> DesiredPort rows: pure, and the same whatever the order of its input. Called by
// controller/ for one Service at a time. It must not decide who owns a contested VIP: it sees one Service only.
import { type Family, families } from '../../model/address.ts';
import type { DesiredPort } from '../../model/frontend.ts';
import type { EndpointSlice } from '../../model/endpoint-slice.ts';
import type { Service, ServicePort } from '../../model/service.ts';
import { backendsOf, endpointsOf } from './endpoints.ts';
import { frontendsOf, sourceRangesOf } from './frontends.ts';
import type { NodeContext } from './node-context.ts';

/** One row per Service port and family the Service has a ClusterIP of, with every frontend it claims. `slices` are its own. */
export function desiredPorts(service: Service, slices: readonly EndpointSlice[], node: NodeContext): DesiredPort[] {
  const rows = new Map<string, DesiredPort>();
  for (const family of families) {
    if (service.clusterIPs[family] === undefined) continue;
    const sourceRanges = sourceRangesOf(service, family, node.primaryIPs[family]);
    for (const port of service.ports) {
      const key = portKey(service, port, family);
      // Two ports of one name and protocol are refused by the API server; from a file, the first one counts.
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
