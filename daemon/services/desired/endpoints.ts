// SPDX-License-Identifier: Apache-2.0
// EndpointSlices -> the backends of one Service port, with the two sets that traffic policies choose from
// (kube-proxy-semantics.md, 7 and 8). Pure, and the same whatever the order of slices and endpoints.
import type { Family } from '../../model/address.ts';
import type { Backend } from '../../model/frontend.ts';
import type { EndpointSlice, SliceEndpoint } from '../../model/endpoint-slice.ts';
import type { NamedPort } from '../../model/service.ts';
import type { NodeContext } from './node-context.ts';
import { compareBackends } from './order.ts';

/** An endpoint of a slice with the port number that its slice gives to the Service port. */
export interface Copy {
  readonly endpoint: SliceEndpoint;
  readonly port: number;
}

/** Every address:port of the Service port, each once. Ports match by name and protocol (8.3). */
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

/** Of two copies of one address:port the higher rank wins; copies of one rank give the same backend. */
function rank(endpoint: SliceEndpoint): string {
  const flag = (is: boolean): string => (is ? '1' : '0');
  // A non-terminating copy first: the address was given to a new pod before the old one's object went (8.5).
  const state = flag(!endpoint.terminating) + flag(endpoint.ready) + flag(endpoint.serving);
  return `${state} ${endpoint.nodeName ?? ''} ${(endpoint.nodeHints ?? []).join()} ${(endpoint.zoneHints ?? []).join()}`;
}

export interface BackendOptions {
  readonly node: Pick<NodeContext, 'nodeName' | 'zone'>;
  /** Some frontend of the port has policy Local. */
  readonly hasLocalPolicy: boolean;
}

/** Every endpoint as a backend, sorted. A purely Cluster port asks for no local set, so none is filled. */
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
    // Ready is enough (publishNotReadyAddresses): what may be chosen is not left.
    isServing: copy.endpoint.serving || copy.endpoint.ready,
  }));
  return backends.sort(compareBackends);
}

/** Policy Cluster: ready endpoints as hinted, or all ready ones; without any, those that serve while terminating. */
function clusterSet(copies: readonly Copy[], { nodeName, zone }: BackendOptions['node']): ReadonlySet<Copy> {
  const candidates = readyOrDraining(copies);
  const ready = candidates.filter(({ endpoint }) => endpoint.ready);
  const hinted =
    hintedFor(ready, nodeName, ({ endpoint }) => endpoint.nodeHints) ?? hintedFor(ready, zone, ({ endpoint }) => endpoint.zoneHints);
  return new Set(hinted ?? candidates);
}

/** The ready ones; if there is none, those that serve while terminating. */
function readyOrDraining(copies: readonly Copy[]): readonly Copy[] {
  const ready = copies.filter(({ endpoint }) => endpoint.ready);
  return ready.length > 0 ? ready : copies.filter(({ endpoint }) => endpoint.serving && endpoint.terminating);
}

/** Those hinted for the name; undefined unless every endpoint has hints and one of them is hinted for the name. */
function hintedFor(
  ready: readonly Copy[],
  name: string | undefined,
  hintsOf: (copy: Copy) => readonly string[] | undefined,
): readonly Copy[] | undefined {
  if (name === undefined || ready.some((copy) => hintsOf(copy) === undefined)) return undefined;
  const hinted = ready.filter((copy) => hintsOf(copy)?.includes(name));
  return hinted.length > 0 ? hinted : undefined;
}
