// SPDX-License-Identifier: Apache-2.0
// Network devices of this node: the devices that the kernel lists, what routes and addresses say about them, their roles, and the devices
// that must have tc programs. services/desired/device-roles.ts judges the roles; services/controller/device-controller.ts writes the
// required devices.
import type { Family } from './address.ts';

/** A device in the node's network namespace. Written by source/netlink/links.ts. Key: ifindex. */
export interface NetworkDevice {
  readonly ifindex: number;
  readonly name: string;
  /** The link kind, such as "veth" or "vxlan"; "" for a physical device. */
  readonly kind: string;
  /** The header of a frame in front of its IP header. There are programs for Ethernet and for none. */
  readonly linkHeader: 'ethernet' | 'none' | 'other';
  readonly isLoopback: boolean;
  /** Link-layer address, such as "02:00:00:00:00:01"; "" if there is none. */
  readonly address: string;
  /** Ifindex of the bridge, bond, VRF or similar device to which this device belongs; 0 if there is none. */
  readonly master: number;
  /** True if the other end of the device is in another network namespace (IFLA_LINK_NETNSID). */
  readonly hasPeerElsewhere: boolean;
  /**
   * Distinguishes two devices that had the same ifindex and name one after the other. The kernel removed the programs of the first device
   * together with the device, so the second device has none.
   */
  readonly appearance: number;
}

/**
 * What the routes of all tables, except the table "local", say about a device. Routes to link-local and multicast destinations do not
 * count, because every device has them. Written by source/netlink/routes.ts. Key: ifindex. A device without a row has no route.
 */
export interface DeviceRoutes {
  readonly ifindex: number;
  /** A route with a gateway leads through the device, or a default route. */
  readonly hasGateway: boolean;
  /** A default route leads through the device. */
  readonly hasDefault: boolean;
  /** The device is one of several next hops of a route. */
  readonly isMultipath: boolean;
}

/**
 * A device with an address of a subnet: its prefix is shorter than /32 or /128. Link-local addresses do not count. Written by
 * source/netlink/local-addresses.ts. Key: ifindex.
 */
export interface DeviceSubnet {
  readonly ifindex: number;
}

/**
 * A device on which the kernel validates the source of IPv4 packets strictly (rp_filter 1). Written by source/netlink/source-validation.ts.
 * Key: ifindex.
 */
export interface StrictDevice {
  readonly ifindex: number;
}

/** A family with rules of policy routing that select packets. Written by source/netlink/routing-rules.ts. Key: family. */
export interface RoutingRules {
  readonly family: Family;
  /** A rule selects by the source. */
  readonly hasSource: boolean;
}

/** Why a device has no programs although a route leads through it. */
export const otherLinkHeader = 'its frames have another link-layer header than Ethernet';

/** Everything that the role of a device depends on. */
export interface DeviceFacts extends NetworkDevice {
  /** A route leads through the device. */
  readonly hasRoute: boolean;
  readonly hasGateway: boolean;
  readonly hasDefault: boolean;
  readonly hasSubnet: boolean;
}

/** Determines which programs are attached: those for pod interfaces or those for uplinks. */
export type DeviceRole = 'pod' | 'uplink';

/** The role of a device, with the reason. */
export interface JudgedDevice extends Pick<NetworkDevice, 'ifindex' | 'name' | 'kind' | 'linkHeader' | 'appearance'> {
  readonly role: DeviceRole | 'none';
  /** "default route", "loopback", "port of bond0". */
  readonly reason: string;
  /** True if packets that pass through the device meet a program: on the device, or on the ports of the bridge. */
  readonly isCovered: boolean;
}

/** Which devices get programs. `auto`: those that are found by their properties. An empty list: none. */
export interface DeviceSettings {
  /** Name prefixes. */
  readonly podInterfaces: 'auto' | readonly string[];
  /** Names. */
  readonly uplinks: 'auto' | readonly string[];
}

/** True if a device may get programs with these settings. */
export const usesDevices = ({ podInterfaces, uplinks }: DeviceSettings): boolean =>
  [podInterfaces, uplinks].some((setting) => setting === 'auto' || setting.length > 0);

/** A device that must have tc programs. bpf/ attaches them. Key: ifindex. */
export interface DesiredDevice extends Pick<NetworkDevice, 'ifindex' | 'name' | 'linkHeader' | 'appearance'> {
  readonly role: DeviceRole;
  /** What the programs must know about the device. */
  readonly mapRow: DeviceRow;
}

/** The row of a device in the map lb_devices. */
export interface DeviceRow {
  /** Ifindex of the device that routes name: the device itself, or the bridge of which it is a port. */
  readonly routeDevice: number;
  /** Link-layer address of the bridge; "" if the device is not a port of a bridge. */
  readonly bridgeAddress: string;
  /** True if the kernel validates the source of IPv4 packets strictly, and only one device can be right. */
  readonly isStrict: boolean;
  /** The families for which routes depend on the source. */
  readonly sourceRules: readonly Family[];
}

/** The kinds of devices that connect a pod's network namespace with that of the node. */
const pairKinds: ReadonlySet<string> = new Set(['veth', 'netkit']);

/** True for one end of a pair of devices, of which the other end may be in a pod. */
export const isPair = ({ kind }: Pick<NetworkDevice, 'kind'>): boolean => pairKinds.has(kind);

/** True for a device that the prefixes of --pod-interfaces name. */
export const hasPodPrefix = (device: Pick<NetworkDevice, 'kind' | 'name'>, prefixes: readonly string[]): boolean =>
  isPair(device) && prefixes.some((prefix) => device.name.startsWith(prefix));

/** The facts about a device from the rows of the three tables. */
export const factsOf = (device: NetworkDevice, routes: DeviceRoutes | undefined, subnet: DeviceSubnet | undefined): DeviceFacts => ({
  ...device,
  hasRoute: routes !== undefined,
  hasGateway: routes?.hasGateway ?? false,
  hasDefault: routes?.hasDefault ?? false,
  hasSubnet: subnet !== undefined,
});

/** The messages about devices that the settings name and the node lacks. Programs are attached as soon as such a device appears. */
export const missingUplink = (name: string): string =>
  `uplink ${name} does not exist: correct --uplinks (\`ip link\` prints the devices), or create the device, and its programs are attached`;

export const missingPodInterfaces = (prefix: string): string =>
  `no veth or netkit device of this node has the prefix ${prefix}: if pods run on this node, correct --pod-interfaces (\`ip link\` prints the devices), or use auto`;

/** The message about a node on which --uplinks auto finds nothing. */
export const noUplink =
  'no uplink was found, because no route leads out of a device that can have programs: add an address or a route, and programs are attached';
