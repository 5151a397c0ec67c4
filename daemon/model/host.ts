// SPDX-License-Identifier: Apache-2.0
// What this host is and how it is to serve: its own addresses as rows, and the settings that decide frontends and
// masquerading (kube-proxy's words). Config has these fields under the same names.

/** An address that the kernel holds for local. Written by the netlink watch, or from --node FILE in a dry run. */
export interface LocalAddress {
  /** Canonical. */
  readonly address: string;
  /** The device that has it; 0: not known. */
  readonly ifindex: number;
}

/** How local pods are told from others (kube-proxy-semantics.md, 9). */
export type DetectLocalMode = 'ClusterCIDR' | 'NodeCIDR' | 'InterfaceNamePrefix' | 'none';

export interface HostSettings {
  /** Canonical, either family. */
  readonly clusterCidr: readonly string[];
  readonly detectLocalMode: DetectLocalMode;
  readonly masqueradeAll: boolean;
  /** Canonical CIDRs, or a word for them. */
  readonly nodePortAddresses: 'all' | 'primary' | readonly string[];
  /** Name prefixes of pod interfaces; tc programs are attached to them. */
  readonly podInterfaces: readonly string[];
  /** Names of the devices that lead out of the node; tc programs are attached to them. */
  readonly uplinks: readonly string[];
  /** Source ports of masqueraded flows: one or two ranges. */
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  /** Canonical; beside what ServiceCIDR objects say. */
  readonly serviceCidr: readonly string[];
}
