// SPDX-License-Identifier: Apache-2.0
// Desired rows: what the datapath should do. Written by controller/ only; reconcile/ makes it so; api/ shows it.
import { type Family, hostPort } from './address.ts';
import type { Protocol, TrafficPolicy } from './service.ts';

export type FrontendType = 'ClusterIP' | 'NodePort' | 'ExternalIP' | 'LoadBalancer';

/** Which of a Service's two traffic policies governs a frontend: internal for ClusterIPs, external for all others. */
export type Scope = 'internal' | 'external';

/** One address:port/protocol by which a Service is reached. */
export interface Frontend {
  readonly address: string;
  readonly family: Family;
  readonly port: number;
  readonly protocol: Protocol;
  readonly type: FrontendType;
  /** The traffic policy in force. */
  readonly policy: TrafficPolicy;
  /** Only sources in DesiredPort.sourceRanges are admitted. */
  readonly hasSourceRanges: boolean;
}

export interface Backend {
  readonly address: string;
  readonly port: number;
  /** In the set of policy Cluster. */
  readonly isUsable: boolean;
  /** In the set of policy Local; false throughout when no frontend of the port has that policy. */
  readonly isLocallyUsable: boolean;
  /** On this node. */
  readonly isLocal: boolean;
  /** Ready, or serving while it terminates: an open UDP flow may stay. */
  readonly isServing: boolean;
}

/**
 * One Service port in one family: the unit that reconcile/ realizes (one service index, one run of slots).
 * `frontends` holds only those this port owns (another Service may hold a contested VIP);
 * `backends` is sorted by address and port and holds every endpoint, usable or not, since old flows ask for them.
 */
export interface DesiredPort {
  /** "namespace/name:portName/TCP/IPv4". */
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly portName: string;
  readonly protocol: Protocol;
  readonly family: Family;
  readonly frontends: readonly Frontend[];
  readonly backends: readonly Backend[];
  /** Timeout of ClientIP affinity; 0: none. */
  readonly affinitySeconds: number;
  /** Canonical CIDRs of this family, sorted; asked only for frontends with hasSourceRanges. */
  readonly sourceRanges: readonly string[];
}

/**
 * What the sets of addresses are asked for (kube-proxy-semantics.md): this node's own (6.4), local pods' (9), ClusterIPs and
 * Service CIDRs (5).
 */
export type AddressSet = 'node' | 'pod' | 'clusterIP' | 'serviceCIDR';

/** A member of an address set: one row of the table of address sets. */
export interface DesiredRange {
  readonly set: AddressSet;
  /** Canonical; a single address is a /32 or /128. */
  readonly cidr: string;
}

/** How a packet's source is found to be a local pod: an address in the set "pod", the interface it came from, or not at all. */
export type PodDetection = 'cidr' | 'interface' | 'none';

/** What applies to every Service on this node: the only row, hostKey, of its table. */
export interface DesiredHost {
  /** What masqueraded packets get as their source: the node's primary address by family. */
  readonly nodeAddresses: Readonly<Partial<Record<Family, string>>>;
  /** By family: a family without a range in the set "pod" has no CIDR detector, whatever the other has. */
  readonly podDetection: Readonly<Record<Family, PodDetection>>;
  readonly masqueradeAll: boolean;
  /** Source ports of masqueraded flows: one or two ranges. */
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  /** Whether tc programs are attached to pod interfaces, and to uplinks. */
  readonly hasTc: { readonly pods: boolean; readonly node: boolean };
  /** The smallest range of addresses that covers every ClusterIP and Service CIDR of a family: others are not asked about. */
  readonly clusterRange: Readonly<Partial<Record<Family, { readonly first: string; readonly last: string }>>>;
}

export const scopeOf = (frontend: Pick<Frontend, 'type'>): Scope => (frontend.type === 'ClusterIP' ? 'internal' : 'external');

/** "10.96.0.10:80/TCP": how people, dumps and logs name a frontend, and its key in tables: nobody else can have it too. */
export const frontendKey = (f: Pick<Frontend, 'address' | 'port' | 'protocol'>): string => `${hostPort(f.address, f.port)}/${f.protocol}`;

/** The backends of the set that a policy asks for. */
export const backendsFor = (port: DesiredPort, policy: TrafficPolicy): Backend[] =>
  port.backends.filter((backend) => (policy === 'Local' ? backend.isLocallyUsable : backend.isUsable));

export const hostKey = 'host';

/** Key of a member in the table of address sets. */
export const rangeKey = (range: DesiredRange): string => `${range.set} ${range.cidr}`;
