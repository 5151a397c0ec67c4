// SPDX-License-Identifier: Apache-2.0
// Finds out where the source of a packet is, from the devices and routes of this host at the time of the question and from the
// address ranges of the node and its pods. It must never change a device or a route. Used by the explain service of the daemon.
import { ExitCode, ExitError, isNotFound, KernelError } from '../base/errors.ts';
import { didYouMean } from '../base/nearest.ts';
import { type Link, links, routeTo } from '../kernel/rtnetlink.ts';
import { addressBytes, cidrContains } from '../model/address.ts';
import { type DesiredDevice, isPair } from '../model/device.ts';
import type { Origin } from '../model/explanation.ts';
import type { DeviceQuestion, PacketDevice } from './explainer.ts';
import type { PacketHook } from './programs.ts';

const LOOPBACK = 1;
/** Maximum number of devices that an error message lists. */
const SHOWN_DEVICES = 10;

export interface HostRanges {
  /** The devices that must have programs. */
  readonly devices: readonly DesiredDevice[];
  /** The node's own addresses, as canonical CIDRs. */
  readonly nodeCidrs: readonly string[];
  /** podCIDRs of the Node object, canonical. */
  readonly podCidrs: readonly string[];
  /** Names of the devices to which the program is attached at this moment. */
  readonly devicesWith: (program: string) => Iterable<string>;
}

/** The devices are listed when an instance is created: create one for each request. */
export class ThisHost {
  readonly #ranges: HostRanges;
  readonly #links: readonly Link[] = links();
  readonly #routes = new Map<string, number>();
  readonly #devicesWith = new Map<string, readonly string[]>();

  constructor(ranges: HostRanges) {
    this.#ranges = ranges;
  }

  /** Name of a device; undefined when it does not exist. Index 0 is the node itself. */
  deviceName(ifindex: number): string | undefined {
    return ifindex === 0 ? 'the node itself' : this.#links.find((link) => link.ifindex === ifindex)?.name;
  }

  isPodInterface(name: string): boolean {
    return this.#ranges.devices.some((device) => device.name === name && device.role === 'pod');
  }

  /**
   * Origin of a source address. "node": one of the node's addresses. "pod": an address that is routed to a pod interface or to a bridge with
   * pod interfaces, or in the Node's podCIDRs. "external": every other address.
   */
  originOf(source: string): Origin {
    const isIn = (cidrs: readonly string[]): boolean => cidrs.some((cidr) => cidrContains(cidr, source));
    if (isIn(this.#ranges.nodeCidrs)) return 'node';
    const device = this.#links.find((link) => link.ifindex === this.#routeOf(source));
    const ports = this.#links.filter(({ master }) => master === device?.ifindex);
    if (device !== undefined && [device, ...ports].some(({ name }) => this.isPodInterface(name))) return 'pod';
    return isIn(this.#ranges.podCidrs) ? 'pod' : 'external';
  }

  /**
   * Finds the device of a packet. The first of these that exists is used: `iface`; the device of the route to `source`, or to `destination`
   * if the node itself sends the packet; the first uplink; loopback. Throws ExitError when `iface` does not exist.
   */
  deviceOf({ origin, source, destination, iface, hook }: DeviceQuestion): PacketDevice {
    const device = iface === undefined ? this.#routed(origin === 'node' ? destination : source) : this.#named(iface);
    const program = programOf(hook, device);
    // A pod that does not exist, or that is behind a bridge, has no device to which a route leads. Then any device with the program counts.
    const isAnyPod = iface === undefined && origin === 'pod' && !(device !== undefined && isPair(device));
    const found = this.#attached(program);
    const isProcessed = isAnyPod ? found.length > 0 : found.includes(device?.name ?? '');
    const problem = isProcessed ? undefined : missingText(program, isAnyPod ? undefined : device);
    return { ifindex: device?.ifindex ?? LOOPBACK, program, problem };
  }

  #named(name: string): Link {
    const link = this.#links.find((each) => each.name === name);
    if (link !== undefined) return link;
    const names = this.#links.map((each) => each.name);
    const more = names.length - SHOWN_DEVICES;
    const list = `${names.slice(0, SHOWN_DEVICES).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
    throw new ExitError(ExitCode.usage, `the device ${name} does not exist${didYouMean(name, names)}; this node has ${list}`);
  }

  #routed(address: string): Link | undefined {
    const routed = this.#routeOf(address) || this.#ranges.devices.find(({ role }) => role === 'uplink')?.ifindex;
    return this.#links.find(({ ifindex }) => ifindex === routed);
  }

  /**
   * The devices with the program, which are read once: the kernel takes the RTNL lock for each of them, and waits for it while another process
   * adds or removes devices.
   */
  #attached(program: string): readonly string[] {
    let names = this.#devicesWith.get(program);
    if (names === undefined) {
      names = [...this.#ranges.devicesWith(program)];
      this.#devicesWith.set(program, names);
    }
    return names;
  }

  #routeOf(address: string): number {
    let device = this.#routes.get(address);
    if (device === undefined) {
      device = routeDevice(address);
      this.#routes.set(address, device);
    }
    return device;
  }
}

/** Device of the route to an address; 0 when there is no route. */
function routeDevice(address: string): number {
  try {
    return routeTo(addressBytes(address)).ifindex;
  } catch (error) {
    if (isNotFound(error) || (error instanceof KernelError && ['ENETUNREACH', 'EHOSTUNREACH'].includes(error.code))) return 0;
    throw error;
  }
}

/** An uplink without a link-layer header has programs of its own. */
const programOf = (hook: PacketHook, device: Link | undefined): string =>
  `tc_${device?.linkHeader === 'none' ? hook.replace('uplink', 'l3') : hook}`;

/** Why no program processes the packet, with the next step. */
function missingText(program: string, device: Link | undefined): string {
  if (device?.ifindex === LOOPBACK) return `the packet goes through ${device.name}, where only the socket hooks (--socket-lb on) translate`;
  const flag = program === 'tc_pod_in' ? '--pod-interfaces' : '--uplinks';
  const where = device === undefined ? (program === 'tc_pod_in' ? 'any pod interface' : 'any uplink') : device.name;
  return `${program} is not attached to ${where}: set ${flag}, or read sluice status`;
}
