// SPDX-License-Identifier: Apache-2.0
// Desired rows: what the datapath must do. They state the goal and never what the maps hold at the moment.
// services/controller/ writes them, services/apply/ applies them to the maps, api/ and the CLI show them.
import { type Family, hostPort } from './address.ts';
import type { Protocol, TrafficPolicy } from './service.ts';

export type FrontendType = 'ClusterIP' | 'NodePort' | 'ExternalIP' | 'LoadBalancer';

/** Selects the traffic policy of a frontend: the internal one for ClusterIPs, the external one for all other frontends. */
export type Scope = 'internal' | 'external';

/** One address:port/protocol under which a Service is reachable. */
export interface Frontend {
  readonly address: string;
  readonly family: Family;
  readonly port: number;
  readonly protocol: Protocol;
  readonly type: FrontendType;
  /** The traffic policy that applies to this frontend. */
  readonly policy: TrafficPolicy;
  /** True if only sources in DesiredPort.sourceRanges are admitted. */
  readonly hasSourceRanges: boolean;
}

export interface Backend {
  readonly address: string;
  readonly port: number;
  /** True if the backend is in the Cluster set: frontends with policy Cluster use it. */
  readonly isUsable: boolean;
  /** True if the backend is in the Local set: frontends with policy Local use it. Always false if the port has no such frontend. */
  readonly isLocallyUsable: boolean;
  /** True if the endpoint is on this node. */
  readonly isLocal: boolean;
  /** True if the endpoint is ready, or serving while terminating. Established UDP flows to the backend are then kept. */
  readonly isServing: boolean;
}

/**
 * One Service port in one IP family: the unit that services/apply/ writes (one service index, one run of slots).
 * `frontends` lists only the frontends that this port owns: a contested VIP may belong to another Service.
 * `backends` is sorted by address and port. It lists every endpoint, usable or not, because existing flows refer to them.
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
  /** Timeout of ClientIP affinity; 0 means no affinity. */
  readonly affinitySeconds: number;
  /** Canonical CIDRs of this family, sorted. They apply to frontends with hasSourceRanges only. */
  readonly sourceRanges: readonly string[];
}

/**
 * Sets of addresses that the datapath looks up: this node's own addresses (test/README.md, 6.4), local pods
 * (test/README.md, 9), ClusterIPs and Service CIDRs (test/README.md, 5).
 */
export type AddressSet = 'node' | 'pod' | 'clusterIP' | 'serviceCIDR';

/** One member of an address set: one row of the table of address sets. */
export interface DesiredRange {
  readonly set: AddressSet;
  /** Canonical. A single address is a /32 or /128. */
  readonly cidr: string;
}

/** How local pods are recognised: by a source address in the set "pod", by the interface of the packet, or not at all. */
export type PodDetection = 'cidr' | 'interface' | 'none';

/** Settings that apply to every Service on this node. Its table has one row, with the key hostKey. */
export interface DesiredHost {
  /** Source address of masqueraded packets: the node's primary address of each family. */
  readonly nodeAddresses: Readonly<Partial<Record<Family, string>>>;
  /** A family without a range in the set "pod" has no CIDR detector, even if the other family has one. */
  readonly podDetection: Readonly<Record<Family, PodDetection>>;
  readonly masqueradeAll: boolean;
  /** Source ports of masqueraded flows: one or two ranges. */
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  /** True if tc programs are attached: `pods` for pod interfaces, `node` for uplinks. */
  readonly hasTc: { readonly pods: boolean; readonly node: boolean };
  /** The mark of translated packets that a firewall may accept in its forward hook; 0: none (--accept-forwarded off). */
  readonly forwardMark: number;
  /** Changes when source addresses of masqueraded packets are removed. Flows then compare their source with the addresses that are left. */
  readonly removedSources: number;
  /** The smallest address range of each family that covers every ClusterIP and Service CIDR. Other addresses need no lookup. */
  readonly clusterRange: Readonly<Partial<Record<Family, { readonly first: string; readonly last: string }>>>;
}

export const scopeOf = (frontend: Pick<Frontend, 'type'>): Scope => (frontend.type === 'ClusterIP' ? 'internal' : 'external');

/** "10.96.0.10:80/TCP": the name of a frontend in dumps, logs and the CLI, and its unique key in tables. */
export const frontendKey = (f: Pick<Frontend, 'address' | 'port' | 'protocol'>): string => `${hostPort(f.address, f.port)}/${f.protocol}`;

/** The backends of the set that belongs to the policy. */
export const backendsFor = (port: DesiredPort, policy: TrafficPolicy): Backend[] =>
  port.backends.filter((backend) => (policy === 'Local' ? backend.isLocallyUsable : backend.isUsable));

export const hostKey = 'host';

/** Key of a member in the table of address sets. */
export const rangeKey = (range: DesiredRange): string => `${range.set} ${range.cidr}`;
