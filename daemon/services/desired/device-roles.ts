// SPDX-License-Identifier: Apache-2.0
// Judges what each device of a node is: a pod interface, an uplink, or neither, with the reason. A packet must meet the programs on one
// device of its path only: on the ports of a bridge or on the bridge, on a bond or on its members, never on both. Pure. The result depends
// on all devices together, so the caller judges all of them again after each change.
import { type DeviceFacts, type DeviceSettings, hasPodPrefix, isPair, type JudgedDevice } from '../../model/device.ts';

/** Devices by ifindex, and the ports of each bridge by the ifindex of the bridge. */
interface Node {
  readonly devices: ReadonlyMap<number, DeviceFacts>;
  readonly ports: ReadonlyMap<number, readonly DeviceFacts[]>;
  readonly settings: DeviceSettings;
}

/** The role of every device, in the order of the argument. */
export function deviceRoles(devices: readonly DeviceFacts[], settings: DeviceSettings): JudgedDevice[] {
  const byIndex = new Map(devices.map((device) => [device.ifindex, device]));
  const isBridgePort = ({ master }: DeviceFacts): boolean => byIndex.get(master)?.kind === 'bridge';
  const node = { devices: byIndex, ports: Map.groupBy(devices.filter(isBridgePort), ({ master }) => master), settings };
  return devices.map((device) => {
    const { ifindex, name, kind, appearance } = device;
    const { role, reason } = verdictOf(device, node);
    const isCovered = role !== 'none' || (kind === 'bridge' && hasPodPort(device, node));
    return { ifindex, name, kind, appearance, role, reason, isCovered };
  });
}

type Verdict = Pick<JudgedDevice, 'role' | 'reason'>;

const none = (reason: string): Verdict => ({ role: 'none', reason });

const noHeader = 'no Ethernet header';

function verdictOf(device: DeviceFacts, node: Node): Verdict {
  const { podInterfaces, uplinks } = node.settings;
  if (device.isLoopback) return none('loopback');
  if (uplinks !== 'auto' && uplinks.includes(device.name))
    return device.isEthernet ? { role: 'uplink', reason: 'named by --uplinks' } : none(noHeader);
  if (isPod(device, node)) return podVerdict(device, node);
  if (podInterfaces !== 'auto' && looksLikePod(device, node)) return none('not named by --pod-interfaces');
  return structuralReason(device, node) ?? uplinkVerdict(device, node);
}

function podVerdict(device: DeviceFacts, { settings, devices }: Node): Verdict {
  if (!device.isEthernet) return none(noHeader);
  if (settings.podInterfaces !== 'auto') return { role: 'pod', reason: 'named by --pod-interfaces' };
  const bridge = devices.get(device.master);
  const where = bridge?.kind === 'bridge' ? `, port of ${bridge.name}` : '';
  return { role: 'pod', reason: `the other end is in another network namespace${where}` };
}

/** Why a device has no programs although a route may lead out of it: another device of the same path has them. */
function structuralReason(device: DeviceFacts, node: Node): Verdict | undefined {
  const master = node.devices.get(device.master);
  // A member of a VRF is not a port: routes lead out of the member itself, and the VRF only chooses the table.
  if (master !== undefined && master.kind !== 'vrf') return portVerdict(device, master, node);
  if (device.kind === 'vrf') return none('a VRF, whose members have the programs');
  if (device.kind !== 'bridge') return undefined;
  if (hasPodPort(device, node)) return none('a bridge, whose ports have the programs');
  return (node.ports.get(device.ifindex) ?? []).length === 0 ? none('a bridge without ports') : undefined;
}

/**
 * A port, such as a member of a bond, has no programs, because its master has them. Exception: the programs of a bridge with pods are on its
 * ports, so a port through which the bridge reaches the network is an uplink.
 */
function portVerdict(port: DeviceFacts, master: DeviceFacts, node: Node): Verdict {
  const isBesidePods = master.kind === 'bridge' && hasPodPort(master, node);
  const isWanted = node.settings.uplinks === 'auto' && isRouted(master) && port.isEthernet;
  // A pair between two bridges of this node leads to ports that have programs themselves.
  const leadsOut = !isPair(port) || port.hasPeerElsewhere;
  if (isBesidePods && isWanted && leadsOut) return { role: 'uplink', reason: `port of ${master.name}, beside pods` };
  return none(`port of ${master.name}`);
}

function uplinkVerdict(device: DeviceFacts, { settings }: Node): Verdict {
  if (!isRouted(device)) return none('no route leads through it');
  if (settings.uplinks !== 'auto') return none('not named by --uplinks');
  if (!device.isEthernet) return none(noHeader);
  const reason = device.hasDefault ? 'default route' : device.hasGateway ? 'route with a gateway' : 'route without a gateway';
  return { role: 'uplink', reason };
}

/** Routes of a device that is down are gone, its IPv4 addresses are not. The device keeps its role. */
const isRouted = ({ hasRoute, hasSubnet }: DeviceFacts): boolean => hasRoute || hasSubnet;

function isPod(device: DeviceFacts, node: Node): boolean {
  const { podInterfaces } = node.settings;
  return podInterfaces === 'auto' ? looksLikePod(device, node) : hasPodPrefix(device, podInterfaces);
}

const leadsElsewhere = (device: DeviceFacts): boolean => isPair(device) && device.hasPeerElsewhere;

/**
 * True for a pair whose other end is in another network namespace, unless the network is behind it, as behind eth0 of a node that is
 * itself a container (kind, k3d). The end in the node may have an address of its own (the ptp plugin, kindnet).
 */
function looksLikePod(device: DeviceFacts, { devices, ports }: Node): boolean {
  if (!leadsElsewhere(device)) return false;
  const master = devices.get(device.master);
  if (master === undefined || master.kind === 'vrf') return !device.hasGateway && !device.hasSubnet;
  if (master.kind !== 'bridge') return false;
  // The gateway of the default route must be behind one of the ports. If all ports are such pairs, the gateway is behind a pair, and
  // which one is unknown. The bridge is then an uplink.
  return !(master.hasDefault && (ports.get(master.ifindex) ?? []).every(leadsElsewhere));
}

const hasPodPort = (bridge: DeviceFacts, node: Node): boolean => (node.ports.get(bridge.ifindex) ?? []).some((port) => isPod(port, node));
