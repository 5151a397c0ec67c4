// SPDX-License-Identifier: Apache-2.0
// Network devices of this node: what the kernel lists, and which of them must have tc programs.

/** A device of the node's network namespace. Written by source/netlink/links.ts. Key: ifindex. */
export interface NetworkDevice {
  readonly ifindex: number;
  readonly name: string;
  /** The driver's kind: "veth", "vxlan"; "" for a physical device. */
  readonly kind: string;
  /** Carries Ethernet frames, as the tc programs expect. */
  readonly isEthernet: boolean;
}

/** Decides which programs a device gets: those for pod interfaces, or those for uplinks. */
export type DeviceRole = 'pod' | 'uplink';

/** A device that must have tc programs. Only bpf/ attaches them. Key: ifindex. */
export interface DesiredDevice {
  readonly ifindex: number;
  readonly name: string;
  readonly role: DeviceRole;
}
