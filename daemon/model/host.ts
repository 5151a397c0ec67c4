// SPDX-License-Identifier: Apache-2.0
// The host: its own addresses as rows, and the settings that determine frontends and masquerading. Settings that kube-proxy
// also has are named as in kube-proxy. The configuration uses the field names of this file. Types only.
import type { DeviceSettings } from './device.ts';

/** A local address of the node. Written by the netlink watch, or read from --node FILE in a dry run. */
export interface LocalAddress {
  /** Canonical. */
  readonly address: string;
  /** The device that has the address; 0 if unknown. */
  readonly ifindex: number;
}

/** How local pods are recognised (test/README.md, 9). */
export type DetectLocalMode = 'ClusterCIDR' | 'NodeCIDR' | 'InterfaceNamePrefix' | 'none';

export interface HostSettings extends DeviceSettings {
  /** Canonical CIDRs of both families. */
  readonly clusterCidr: readonly string[];
  readonly detectLocalMode: DetectLocalMode;
  readonly masqueradeAll: boolean;
  /** 'all', 'primary' or a list of canonical CIDRs. */
  readonly nodePortAddresses: 'all' | 'primary' | readonly string[];
  /** Whether spec.externalIPs are served: all ('on'), none ('off'), or those in canonical CIDRs. */
  readonly externalIps: 'on' | 'off' | readonly string[];
  /** Source ports of masqueraded flows: one or two ranges. */
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  /** Whether firewalls must accept translated packets in the forward hook although their policy is drop. */
  readonly acceptForwarded: boolean;
  /** Canonical CIDRs, in addition to those of the ServiceCIDR objects. */
  readonly serviceCidr: readonly string[];
}
