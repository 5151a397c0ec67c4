// SPDX-License-Identifier: Apache-2.0
// Service x EndpointSlices -> DesiredPort rows: pure, and the same whatever the order of its input. Called by
// controller/ for one Service at a time. It must not decide who owns a contested VIP: it sees one Service only.
import { type Family, families } from '../model/address.ts';
import type { Backend, DesiredPort } from '../model/frontend.ts';
import type { EndpointSlice, Service, ServicePort, SliceEndpoint } from '../model/service.ts';
import { compareBackends } from './order.ts';

/**
 * One row per Service port and family the Service has a ClusterIP of, with every frontend it claims. `slices` are the
 * Service's own. SCTP ports give no row: the datapath handles TCP and UDP.
 */
export function desiredPorts(service: Service, slices: readonly EndpointSlice[], nodeName: string): DesiredPort[] {
  const rows = new Map<string, DesiredPort>();
  for (const family of families) {
    const address = service.clusterIPs[family];
    if (address === undefined) continue;
    for (const port of service.ports) {
      const key = portKey(service, port, family);
      // Two ports of one name and protocol are refused by the API server; from a file, the first one counts.
      if (port.protocol === 'SCTP' || rows.has(key)) continue;
      rows.set(key, {
        key,
        namespace: service.namespace,
        name: service.name,
        portName: port.name,
        protocol: port.protocol,
        family,
        frontends: [{ address, family, port: port.port, protocol: port.protocol, scope: 'internal' }],
        backends: backendsOf(endpointsOf(port, slices, family), nodeName),
      });
    }
  }
  return [...rows.values()];
}

/** "namespace/name:portName/TCP/IPv4". */
export function portKey(service: { namespace: string; name: string }, port: ServicePort, family: Family): string {
  return `${service.namespace}/${service.name}:${port.name}/${port.protocol}/${family}`;
}

interface Copy {
  readonly endpoint: SliceEndpoint;
  readonly port: number;
}

/** Every address:port of the Service port, each once. Ports match by name and protocol (kube-proxy-semantics.md, 8.3). */
function endpointsOf(port: ServicePort, slices: readonly EndpointSlice[], family: Family): Iterable<Copy> {
  const copies = new Map<string, Copy>();
  for (const slice of slices) {
    if (slice.family !== family) continue;
    for (const target of slice.ports) {
      if (target.name !== port.name || target.protocol !== port.protocol) continue;
      for (const endpoint of slice.endpoints) {
        const key = `${endpoint.address} ${target.port}`;
        const other = copies.get(key);
        if (other === undefined || rank(endpoint) > rank(other.endpoint)) copies.set(key, { endpoint, port: target.port });
      }
    }
  }
  return copies.values();
}

/** Of two copies of one address:port the higher rank wins; copies of one rank on the same node give the same backend. */
function rank(endpoint: SliceEndpoint): string {
  const flag = (is: boolean): string => (is ? '1' : '0');
  // A non-terminating copy first: the address was given to a new pod before the old one's object went (semantics, 8.5).
  return flag(!endpoint.terminating) + flag(endpoint.ready) + flag(endpoint.serving) + (endpoint.nodeName ?? '');
}

/** Cluster policy without topology: the ready ones, or if none is ready those that serve while terminating (semantics, 7). */
function backendsOf(copies: Iterable<Copy>, nodeName: string): Backend[] {
  const all = [...copies];
  const hasReady = all.some(({ endpoint }) => endpoint.ready);
  const backends = all.map(({ endpoint, port }) => ({
    address: endpoint.address,
    port,
    isUsable: hasReady ? endpoint.ready : endpoint.serving && endpoint.terminating,
    isLocal: endpoint.nodeName === nodeName,
    isServing: endpoint.serving,
  }));
  return backends.sort(compareBackends);
}
