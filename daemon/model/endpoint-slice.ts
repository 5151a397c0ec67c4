// SPDX-License-Identifier: Apache-2.0
// EndpointSlice row: the fields of a discovery.k8s.io/v1 EndpointSlice that this agent uses. Written by source/ only.
import type { Family } from './address.ts';
import type { NamedPort } from './service.ts';

export interface SliceEndpoint {
  /** Canonical form of addresses[0]; the API server allows further addresses, which have no meaning (test/README.md, 8.4). */
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName?: string;
  /** Names in hints.forZones and hints.forNodes; undefined when the hint is absent or empty. */
  readonly zoneHints?: readonly string[];
  readonly nodeHints?: readonly string[];
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Creation time in ms since the epoch; absent if unknown. */
  readonly created?: number;
  /** Value of the label kubernetes.io/service-name. */
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly NamedPort[];
  readonly endpoints: readonly SliceEndpoint[];
  /** Time in the annotation endpoints.kubernetes.io/last-change-trigger-time, in ms since the epoch. */
  readonly lastChangeTrigger?: number;
}

/**
 * Maximum number of backends of one Service in one IP family: the endpoints of its slices, each counted once per port. This is a quarter of
 * the default size of the map of backends, so that one Service cannot use up the room of the others. A Service with an endpoint on each of
 * 5,000 nodes, the largest clusters that Kubernetes supports, can have 13 ports. An Endpoints object has at most 1,000 endpoints.
 */
export const MAX_SERVICE_BACKENDS = 65_536;

/** Number of backends of the slice: each port has every endpoint. */
export const backendCount = ({ ports, endpoints }: Pick<EndpointSlice, 'ports' | 'endpoints'>): number => ports.length * endpoints.length;
