// SPDX-License-Identifier: Apache-2.0
// Network devices of this node: the devices that the kernel lists, and those that must have tc programs.
// services/controller/device-controller.ts derives the required devices from the listed devices.

/** A device in the node's network namespace. Written by source/netlink/links.ts. Key: ifindex. */
export interface NetworkDevice {
  readonly ifindex: number;
  readonly name: string;
  /** The link kind, such as "veth" or "vxlan"; "" for a physical device. */
  readonly kind: string;
  /** True if the device carries Ethernet frames, which the tc programs expect. */
  readonly isEthernet: boolean;
  /**
   * Distinguishes two devices that had the same ifindex and name one after the other. The kernel removed the programs of the first device
   * together with the device, so the second device has none.
   */
  readonly appearance: number;
}

/** Determines which programs are attached: those for pod interfaces or those for uplinks. */
export type DeviceRole = 'pod' | 'uplink';

/** A device that must have tc programs. bpf/ attaches them. Key: ifindex. */
export interface DesiredDevice {
  readonly ifindex: number;
  readonly name: string;
  readonly role: DeviceRole;
  /** The same value as in NetworkDevice. */
  readonly appearance: number;
}

/** True for a device that gets the programs of a pod interface. */
export const isPodInterface = ({ kind, name }: Pick<NetworkDevice, 'kind' | 'name'>, prefixes: readonly string[]): boolean =>
  kind === 'veth' && prefixes.some((prefix) => name.startsWith(prefix));

/** The messages about devices that the settings name and the node lacks. Programs are attached as soon as such a device appears. */
export const missingUplink = (name: string): string =>
  `uplink ${name} does not exist: correct --uplinks (\`ip link\` prints the devices), or create the device, and its programs are attached`;

export const missingPodInterfaces = (prefix: string): string =>
  `no veth device of this node has the prefix ${prefix}: if pods run on this node, correct --pod-interfaces (\`ip link show type veth\` prints the devices)`;
