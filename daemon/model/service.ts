// SPDX-License-Identifier: Apache-2.0
// Service row: the fields of a Service object that this agent uses, and its ports, protocols and traffic policies. Written by
// source/ only.
import type { Family } from './address.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** IPPROTO numbers. */
export const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

export type TrafficPolicy = 'Cluster' | 'Local';

/** The fields that a port of a Service and a port of an EndpointSlice have in common. */
export interface NamedPort {
  /** "" for an unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  /** Port number from 1 to 65535, in host byte order. */
  readonly port: number;
}

export interface ServicePort extends NamedPort {
  /** NodePort from 1 to 65535; 0 if the port has none. */
  readonly nodePort: number;
}

/**
 * A Service with at least one ClusterIP. Headless Services, ExternalName Services and Services of another proxy have no row.
 */
export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** metadata.creationTimestamp in ms since the epoch; 0 when absent. The older Service wins a contested frontend. */
  readonly created: number;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** Canonical address per IP family. */
  readonly clusterIPs: Readonly<Partial<Record<Family, string>>>;
  readonly ports: readonly ServicePort[];
  /** Canonical addresses of both families. */
  readonly externalIPs: readonly string[];
  /** status.loadBalancer.ingress[].ip with ipMode VIP: canonical addresses of both families. */
  readonly loadBalancerIPs: readonly string[];
  /** spec.loadBalancerSourceRanges: canonical CIDRs of both families, without entries that do not parse. */
  readonly sourceRanges: readonly string[];
  /** The traffic policy of the ClusterIPs. */
  readonly internalPolicy: TrafficPolicy;
  /**
   * The traffic policy of all other frontends. This is the value in the Service object; services/desired decides when it takes effect
   * (test/README.md, 6.3).
   */
  readonly externalPolicy: TrafficPolicy;
  /** Timeout of ClientIP affinity in seconds, 1..86400; 0 when there is no affinity. */
  readonly affinitySeconds: number;
  /** spec.healthCheckNodePort; 0 when absent. */
  readonly healthCheckNodePort: number;
}
