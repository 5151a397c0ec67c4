// SPDX-License-Identifier: Apache-2.0
// Finds out where the source of a packet is, from the devices and routes of this host at the time of the question and from the
// address ranges of the node and its pods. It must never change a device or a route. Used by the explain service of the daemon.
import { isNotFound, KernelError } from '../base/errors.ts';
import { type Link, links, routeTo } from '../kernel/rtnetlink.ts';
import { addressBytes, cidrContains } from '../model/address.ts';
import { isPodInterface } from '../model/device.ts';
import type { Origin } from '../model/explanation.ts';

const LOOPBACK = 1;

export interface HostRanges {
  /** Name prefixes of pod interfaces. */
  readonly podInterfaces: readonly string[];
  /** Names of the uplinks. */
  readonly uplinks: readonly string[];
  /** The node's own addresses, as canonical CIDRs. */
  readonly nodeCidrs: readonly string[];
  /** podCIDRs of the Node object, canonical. */
  readonly podCidrs: readonly string[];
}

/** The devices are listed when an instance is created: create one for each request. */
export class ThisHost {
  readonly #ranges: HostRanges;
  readonly #links: readonly Link[] = links();
  readonly #routes = new Map<string, number>();

  constructor(ranges: HostRanges) {
    this.#ranges = ranges;
  }

  /** Name of a device; undefined when it does not exist. Index 0 is the node itself. */
  deviceName(ifindex: number): string | undefined {
    return ifindex === 0 ? 'the node itself' : this.#links.find((link) => link.ifindex === ifindex)?.name;
  }

  isPodInterface(name: string): boolean {
    return this.#links.some((link) => link.name === name && isPodInterface(link, this.#ranges.podInterfaces));
  }

  /** node: one of the node's addresses. pod: routed to a pod interface, or in the Node's podCIDRs. external: everything else. */
  originOf(source: string): Origin {
    const isIn = (cidrs: readonly string[]): boolean => cidrs.some((cidr) => cidrContains(cidr, source));
    if (isIn(this.#ranges.nodeCidrs)) return 'node';
    const device = this.#links.find((link) => link.ifindex === this.#routeOf(source));
    if (device !== undefined && this.isPodInterface(device.name)) return 'pod';
    return isIn(this.#ranges.podCidrs) ? 'pod' : 'external';
  }

  /**
   * ifindex of `iface`, if that device exists; else of the device to which `source` is routed, unless the node itself sends the
   * packet; else of the first uplink; else of loopback.
   */
  deviceOf(origin: Origin, source: string, iface: string | undefined): number {
    const named = (name: string | undefined): number | undefined => this.#links.find((link) => link.name === name)?.ifindex;
    const known = iface === undefined ? undefined : named(iface);
    if (known !== undefined) return known;
    const routed = origin === 'node' ? 0 : this.#routeOf(source);
    if (routed !== 0) return routed;
    return named(this.#ranges.uplinks[0]) ?? LOOPBACK;
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
