// SPDX-License-Identifier: Apache-2.0
// Intent rows: what the API objects say, reduced to what we use. Written by source/ only, read by controller/.
import type { Family } from './address.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** IPPROTO numbers. */
export const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

export type TrafficPolicy = 'Cluster' | 'Local';

/** A port of an EndpointSlice, and what a Service's port shares with it. */
export interface NamedPort {
  /** "" for an unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  /** 1..65535, host order. */
  readonly port: number;
}

export interface ServicePort extends NamedPort {
  /** 1..65535; 0: none. */
  readonly nodePort: number;
}

/** A Service that has at least one ClusterIP. Headless, ExternalName and foreign-proxy Services never become rows. */
export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** metadata.creationTimestamp in ms since the epoch; 0 when the object does not say. Decides frontend collisions. */
  readonly created: number;
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer';
  /** Canonical address by family. */
  readonly clusterIPs: Readonly<Partial<Record<Family, string>>>;
  readonly ports: readonly ServicePort[];
  /** Canonical addresses of both families. */
  readonly externalIPs: readonly string[];
  /** status.loadBalancer.ingress[].ip of ipMode VIP. Canonical addresses of both families. */
  readonly loadBalancerIPs: readonly string[];
  /** spec.loadBalancerSourceRanges as canonical CIDRs of both families; what does not parse is left out. */
  readonly sourceRanges: readonly string[];
  /** Of the ClusterIPs. */
  readonly internalPolicy: TrafficPolicy;
  /** Of all other frontends, as the object says it: whether it counts is desired/'s matter (kube-proxy-semantics.md, 6.3). */
  readonly externalPolicy: TrafficPolicy;
  /** Timeout of ClientIP affinity, 1..86400; 0: no affinity. */
  readonly affinitySeconds: number;
  /** spec.healthCheckNodePort; 0: none. */
  readonly healthCheckNodePort: number;
}

export interface SliceEndpoint {
  /** Canonical address: addresses[0] (kube-proxy-semantics.md, 8.4). */
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName?: string;
  /** hints.forZones and hints.forNodes, names only; absent: no such hint. */
  readonly zoneHints?: readonly string[];
  readonly nodeHints?: readonly string[];
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Value of the label kubernetes.io/service-name. */
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly NamedPort[];
  readonly endpoints: readonly SliceEndpoint[];
  /** Annotation endpoints.kubernetes.io/last-change-trigger-time, ms since the epoch: when what made this change happened. */
  readonly lastChangeTrigger?: number;
}

export interface Node {
  readonly name: string;
  /** Canonical addresses of status.addresses that are IPs: InternalIP before ExternalIP, else in the object's order. */
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
  /** spec.podCIDRs, canonical. */
  readonly podCIDRs: readonly string[];
  /** Has a deletionTimestamp or the taint ToBeDeletedByClusterAutoscaler (kube-proxy-semantics.md, 12). */
  readonly isLeaving: boolean;
}

/** A ServiceCIDR object: addresses that ClusterIPs are taken from. */
export interface ServiceCIDR {
  readonly name: string;
  /** Canonical CIDRs. */
  readonly cidrs: readonly string[];
}

export const objectKey = (o: { namespace: string; name: string }): string => `${o.namespace}/${o.name}`;
