// SPDX-License-Identifier: Apache-2.0
// Judges what each device of a node is: a pod interface, an uplink, or neither, with the reason. A packet must meet the programs on one
// device of its path only: on the ports of a bridge or on the bridge, on a bond or on its members, never on both. Pure. The result depends
// on all devices together, so the caller judges all of them again after each change.
import { type DeviceFacts, type DeviceSettings, hasPodPrefix, isPair, type JudgedDevice, otherLinkHeader } from '../../model/device.ts';

interface Node {
  /** By ifindex. */
  readonly devices: ReadonlyMap<number, DeviceFacts>;
  /** Ifindexes of the bridges that have a port. */
  readonly bridgesWithPorts: ReadonlySet<number>;
  /** Ifindexes of the bridges with a port that does not lead to another network namespace. */
  readonly bridgesWithOtherPorts: ReadonlySet<number>;
  readonly settings: DeviceSettings;
}

/** A node whose bridges of pods are known. */
interface NodeOfPods extends Node {
  /** Ifindexes of the bridges with a pod interface as port. */
  readonly bridgesOfPods: ReadonlySet<number>;
}

/** The role of every device, in the order of the argument. */
export function deviceRoles(devices: readonly DeviceFacts[], settings: DeviceSettings): JudgedDevice[] {
  const byIndex = new Map(devices.map((device) => [device.ifindex, device]));
  const ports = devices.filter(({ master }) => byIndex.get(master)?.kind === 'bridge');
  const bridgesOf = (some: readonly DeviceFacts[]): Set<number> => new Set(some.map(({ master }) => master));
  const bridgesWithOtherPorts = bridgesOf(ports.filter((port) => !leadsElsewhere(port)));
  const node = { devices: byIndex, bridgesWithPorts: bridgesOf(ports), bridgesWithOtherPorts, settings };
  const withPods = { ...node, bridgesOfPods: bridgesOf(ports.filter((port) => isPod(port, node))) };
  return devices.map((device) => {
    const { ifindex, name, kind, linkHeader, appearance } = device;
    const { role, reason } = verdictOf(device, withPods);
    const isCovered = role !== 'none' || withPods.bridgesOfPods.has(ifindex);
    return { ifindex, name, kind, linkHeader, appearance, role, reason, isCovered };
  });
}

type Verdict = Pick<JudgedDevice, 'role' | 'reason'>;

const none = (reason: string): Verdict => ({ role: 'none', reason });

function verdictOf(device: DeviceFacts, node: NodeOfPods): Verdict {
  const { podInterfaces, uplinks } = node.settings;
  if (device.isLoopback) return none('loopback');
  if (uplinks !== 'auto' && uplinks.includes(device.name))
    return device.linkHeader === 'other' ? none(otherLinkHeader) : { role: 'uplink', reason: 'named by --uplinks' };
  if (isPod(device, node)) return podVerdict(device, node);
  if (podInterfaces !== 'auto' && looksLikePod(device, node)) return none('not named by --pod-interfaces');
  return structuralReason(device, node) ?? uplinkVerdict(device, node);
}

function podVerdict(device: DeviceFacts, { settings, devices }: Node): Verdict {
  if (device.linkHeader !== 'ethernet') return none('no Ethernet header');
  if (settings.podInterfaces !== 'auto') return { role: 'pod', reason: 'named by --pod-interfaces' };
  const bridge = devices.get(device.master);
  const where = bridge?.kind === 'bridge' ? `, port of ${bridge.name}` : '';
  return { role: 'pod', reason: `the other end is in another network namespace${where}` };
}

/** Why a device has no programs although a route may lead out of it: another device of the same path has them. */
function structuralReason(device: DeviceFacts, node: NodeOfPods): Verdict | undefined {
  const master = node.devices.get(device.master);
  // A member of a VRF is not a port: routes lead out of the member itself, and the VRF only chooses the table.
  if (master !== undefined && master.kind !== 'vrf') return portVerdict(device, master, node);
  if (device.kind === 'vrf') return none('a VRF, whose members have the programs');
  if (device.kind !== 'bridge') return undefined;
  if (node.bridgesOfPods.has(device.ifindex)) return none('a bridge, whose ports have the programs');
  return node.bridgesWithPorts.has(device.ifindex) ? undefined : none('a bridge without ports');
}

/**
 * A port, such as a member of a bond, has no programs, because its master has them. Exception: the programs of a bridge with pods are on its
 * ports, so a port through which the bridge reaches the network is an uplink.
 */
function portVerdict(port: DeviceFacts, master: DeviceFacts, node: NodeOfPods): Verdict {
  const isBesidePods = node.bridgesOfPods.has(master.ifindex);
  const isWanted = node.settings.uplinks === 'auto' && isRouted(master) && port.linkHeader === 'ethernet';
  // A pair between two bridges of this node leads to ports that have programs themselves.
  const leadsOut = !isPair(port) || port.hasPeerElsewhere;
  if (isBesidePods && isWanted && leadsOut) return { role: 'uplink', reason: `port of ${master.name}, beside pods` };
  return none(`port of ${master.name}`);
}

function uplinkVerdict(device: DeviceFacts, { settings }: Node): Verdict {
  if (!isRouted(device)) return none('no route leads through it');
  if (settings.uplinks !== 'auto') return none('not named by --uplinks');
  if (device.linkHeader === 'other') return none(otherLinkHeader);
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
function looksLikePod(device: DeviceFacts, { devices, bridgesWithOtherPorts }: Node): boolean {
  if (!leadsElsewhere(device)) return false;
  const master = devices.get(device.master);
  if (master === undefined || master.kind === 'vrf') return !device.hasGateway && !device.hasSubnet;
  if (master.kind !== 'bridge') return false;
  // The gateway of the default route must be behind one of the ports. If all ports are such pairs, the gateway is behind a pair, and
  // which one is unknown. The bridge is then an uplink.
  return !master.hasDefault || bridgesWithOtherPorts.has(master.ifindex);
}
