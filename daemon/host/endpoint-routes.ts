// SPDX-License-Identifier: Apache-2.0
// Finds backends to which the route of this node leads through a device without a program, and pods of this node that are not behind a pod
// interface. Asks the kernel for the route to one backend of each subnet. Both the number of questions and the number of backends that are
// looked at are limited, because the status is computed often and a cluster may have 100,000 backends. Reads only.
import { KernelError } from '../base/errors.ts';
import type { StatusPart } from '../base/status-part.ts';
import { routeTo } from '../kernel/rtnetlink.ts';
import { addressBytes, familyOf } from '../model/address.ts';
import { type DeviceSettings, type JudgedDevice, otherLinkHeader, usesDevices } from '../model/device.ts';
import type { DesiredPort } from '../model/frontend.ts';

/** How long a result is reused, in ms. */
const KEPT_MS = 10_000;
/** Routes that are looked up for one result: about 3 ms. A node has few devices, so that more routes would rarely show another one. */
const MAX_ROUTES = 64;
/** Backends that are looked at for one result: about 2 ms. */
const MAX_BACKENDS = 10_000;
const RTN_UNICAST = 1;

/** Kinds of devices through which the pods of a node are reached only if they have a macvlan, ipvlan or SR-IOV interface. */
const outwardKinds: ReadonlySet<string> = new Set(['', 'bond', 'team', 'vlan', 'macvlan', 'ipvlan']);

export interface EndpointRoutesOptions {
  readonly settings: DeviceSettings & { readonly socketLb: boolean };
  /** The Service ports that are desired at the moment. */
  readonly ports: () => Iterable<DesiredPort>;
  /** Undefined for a device that does not exist. */
  readonly judge: (ifindex: number) => JudgedDevice | undefined;
  /** Clock time in milliseconds. */
  readonly now: () => number;
}

interface Destination {
  readonly address: string;
  readonly isLocal: boolean;
}

export class EndpointRoutes implements StatusPart {
  readonly #options: EndpointRoutesOptions;
  #result: { readonly at: number; readonly problems: readonly string[] } | undefined;

  constructor(options: EndpointRoutesOptions) {
    this.#options = options;
  }

  /** One message for each device. */
  problems(): readonly string[] {
    const { settings, now } = this.#options;
    if (!usesDevices(settings)) return [];
    if (this.#result === undefined || now() - this.#result.at >= KEPT_MS) this.#result = { at: now(), problems: this.#find() };
    return this.#result.problems;
  }

  #find(): string[] {
    const found = new Map<string, string>();
    for (const destination of this.#destinations()) {
      const ifindex = deviceTo(destination.address);
      const device = ifindex === 0 ? undefined : this.#options.judge(ifindex);
      const problem = device === undefined ? undefined : this.#problemOf(destination, device);
      const key = `${device?.name} ${destination.isLocal}`;
      if (problem !== undefined && !found.has(key)) found.set(key, problem);
    }
    return [...found.values()];
  }

  /** One backend of each /24 or /64, local backends apart from the others. */
  #destinations(): Destination[] {
    const found = new Map<string, Destination>();
    let backends = 0;
    for (const port of this.#options.ports()) {
      for (const { address, isLocal } of port.backends) {
        backends += 1;
        const key = `${subnetOf(address)} ${isLocal}`;
        if (!found.has(key)) found.set(key, { address, isLocal });
        if (found.size >= MAX_ROUTES || backends >= MAX_BACKENDS) return [...found.values()];
      }
    }
    return [...found.values()];
  }

  #problemOf({ address, isLocal }: Destination, { name, kind, role, reason, isCovered }: JudgedDevice): string | undefined {
    const { settings } = this.#options;
    if (isLocal && role !== 'pod' && outwardKinds.has(kind))
      return `the pod ${address} of this node is reached through ${name}, so it is not behind a pod interface (macvlan, ipvlan, SR-IOV): its own connections are translated only by socket translation (--socket-lb on)`;
    if (isCovered) return undefined;
    const remedy =
      reason === otherLinkHeader
        ? `only connections that socket translation makes can use it (--socket-lb is ${settings.socketLb ? 'on' : 'off'})`
        : `set --uplinks to auto, or add ${name}`;
    return `the route to the backend ${address} leads through ${name}, which has no program (${reason}), so replies that arrive there are not translated: ${remedy}`;
  }
}

/** The first three bytes of an IPv4 address, or the first 64 bits of an IPv6 address. */
const subnetOf = (address: string): string =>
  familyOf(address) === 'IPv4' ? address.slice(0, address.lastIndexOf('.')) : addressBytes(address).subarray(0, 8).join('.');

/** Ifindex of the device of the route; 0 for an address of this node, and for an address without a route. */
function deviceTo(address: string): number {
  try {
    const { type, ifindex } = routeTo(addressBytes(address));
    return type === RTN_UNICAST ? ifindex : 0;
  } catch (error) {
    if (error instanceof KernelError) return 0;
    throw error;
  }
}
