// SPDX-License-Identifier: Apache-2.0
// Computes the backends of one Service port from EndpointSlices, and decides which backends belong to the Cluster set and
// which to the Local set (test/README.md, 7 and 8). Pure; the result does not depend on the order of slices and endpoints.
// Called by desired-ports.ts.
import type { Family } from '../../model/address.ts';
import type { Backend } from '../../model/frontend.ts';
import type { EndpointSlice, SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { NamedPort } from '../../model/service.ts';
import type { NodeContext } from './node-context.ts';
import { compareBackends } from './order.ts';

/** An endpoint of a slice, with the port number that the slice has for the Service port. */
export interface Copy {
  readonly endpoint: SliceEndpoint;
  readonly port: number;
}

/** Every address:port of the Service port, each once. Ports match by name and protocol (test/README.md, 8.3). */
export function endpointsOf(port: NamedPort, slices: readonly EndpointSlice[], family: Family): Copy[] {
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
  return [...copies.values()];
}

/**
 * Rank of a copy of an endpoint. If the slices contain an address:port several times, the copy with the highest rank is used. Copies of
 * equal rank give equal backends.
 */
function rank(endpoint: SliceEndpoint): string {
  const flag = (is: boolean): string => (is ? '1' : '0');
  // A copy that is not terminating has the highest rank: the address was assigned to a new pod before the object of the old pod was deleted
  // (test/README.md, 8.5).
  const state = flag(!endpoint.terminating) + flag(endpoint.ready) + flag(endpoint.serving);
  return `${state} ${endpoint.nodeName ?? ''} ${(endpoint.nodeHints ?? []).join()} ${(endpoint.zoneHints ?? []).join()}`;
}

export interface BackendOptions {
  readonly node: Pick<NodeContext, 'nodeName' | 'zone'>;
  /** Whether a frontend of the port has policy Local. */
  readonly hasLocalPolicy: boolean;
}

/** Every endpoint as a backend, sorted. The Local set stays empty if no frontend has policy Local. */
export function backendsOf(copies: readonly Copy[], { node, hasLocalPolicy }: BackendOptions): Backend[] {
  const usable = clusterSet(copies, node);
  const isLocal = ({ endpoint }: Copy): boolean => endpoint.nodeName === node.nodeName;
  const locally = new Set(hasLocalPolicy ? readyOrDraining(copies.filter(isLocal)) : []);
  const backends = copies.map((copy) => ({
    address: copy.endpoint.address,
    port: copy.port,
    isUsable: usable.has(copy),
    isLocallyUsable: locally.has(copy),
    isLocal: isLocal(copy),
    // With publishNotReadyAddresses, an endpoint can be ready but not serving. New flows use such a backend, so existing flows keep
    // it.
    isServing: copy.endpoint.serving || copy.endpoint.ready,
  }));
  return backends.sort(compareBackends);
}

/** The Cluster set: the ready endpoints selected by hints, else all ready ones, else those that are serving while terminating. */
function clusterSet(copies: readonly Copy[], { nodeName, zone }: BackendOptions['node']): ReadonlySet<Copy> {
  const candidates = readyOrDraining(copies);
  const ready = candidates.filter(({ endpoint }) => endpoint.ready);
  const hinted =
    hintedFor(ready, nodeName, ({ endpoint }) => endpoint.nodeHints) ?? hintedFor(ready, zone, ({ endpoint }) => endpoint.zoneHints);
  return new Set(hinted ?? candidates);
}

/** The ready endpoints. If there are none: the endpoints that are serving while terminating. */
function readyOrDraining(copies: readonly Copy[]): readonly Copy[] {
  const ready = copies.filter(({ endpoint }) => endpoint.ready);
  return ready.length > 0 ? ready : copies.filter(({ endpoint }) => endpoint.serving && endpoint.terminating);
}

/**
 * The endpoints that have a hint for the name. Undefined unless every endpoint has hints and at least one endpoint has a hint for the name.
 */
function hintedFor(
  ready: readonly Copy[],
  name: string | undefined,
  hintsOf: (copy: Copy) => readonly string[] | undefined,
): readonly Copy[] | undefined {
  if (name === undefined || ready.some((copy) => hintsOf(copy) === undefined)) return undefined;
  const hinted = ready.filter((copy) => hintsOf(copy)?.includes(name));
  return hinted.length > 0 ? hinted : undefined;
}
