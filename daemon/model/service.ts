// SPDX-License-Identifier: Apache-2.0
// Intent rows: what the API objects say, reduced to what we use. Written by source/ only, read by controller/.
import type { Family } from './address.ts';

export type Protocol = 'TCP' | 'UDP' | 'SCTP';

export interface ServicePort {
  /** "" for an unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  /** 1..65535, host order. */
  readonly port: number;
}

/** A Service that has at least one ClusterIP. Headless, ExternalName and foreign-proxy Services never become rows. */
export interface Service {
  readonly namespace: string;
  readonly name: string;
  /** metadata.creationTimestamp in ms since the epoch; 0 when the object does not say. Decides frontend collisions. */
  readonly created: number;
  /** Canonical address by family. */
  readonly clusterIPs: Readonly<Partial<Record<Family, string>>>;
  readonly ports: readonly ServicePort[];
}

export interface SliceEndpoint {
  /** Canonical address: addresses[0] (kube-proxy-semantics.md, 8.4). */
  readonly address: string;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly nodeName?: string;
}

export interface EndpointSlice {
  readonly namespace: string;
  readonly name: string;
  /** Value of the label kubernetes.io/service-name. */
  readonly service: string;
  readonly family: Family;
  readonly ports: readonly ServicePort[];
  readonly endpoints: readonly SliceEndpoint[];
}

export interface Node {
  readonly name: string;
  /** Canonical addresses of status.addresses that are IPs. */
  readonly addresses: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export const objectKey = (o: { namespace: string; name: string }): string => `${o.namespace}/${o.name}`;
