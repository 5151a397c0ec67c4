// SPDX-License-Identifier: Apache-2.0
// Checks what the host must provide because Sluice does not configure it: IP forwarding, and a route to the Service addresses
// for processes of the node. Each problem is one message with the command that solves it. Reads only; the status shows the
// messages.
import { KernelError, messageOf } from '../base/errors.ts';
import type { StatusPart } from '../base/status-part.ts';
import { readSysctl } from '../kernel/host.ts';
import { routeTo } from '../kernel/rtnetlink.ts';
import { addressBytes, families, type Family, familyOf, parseAddress } from '../model/address.ts';
import type { DesiredPort } from '../model/frontend.ts';

export interface ForwardingNeeds {
  /** Addresses to which node processes must have a route: one of each Service CIDR, or the first frontend of each family. */
  readonly serviceAddresses: readonly string[];
  /** True if the socket hooks are used. Node processes then need no route to the VIP. */
  readonly hasSocketLb: boolean;
  /** The IP families in use. */
  readonly families: ReadonlySet<Family>;
  /** True if the settings name devices to which tc programs are attached. */
  readonly hasDevices: boolean;
}

const forwarding: Readonly<Record<Family, string>> = {
  IPv4: 'net.ipv4.ip_forward',
  IPv6: 'net.ipv6.conf.all.forwarding',
};

const RTN_UNICAST = 1;

/** One message for each problem. */
export function forwardingProblems(needs: ForwardingNeeds): string[] {
  const problems: string[] = [];
  if (needs.hasDevices) {
    for (const family of needs.families) {
      const name = forwarding[family];
      if (readSysctl(name) === '0') problems.push(`${name} is 0, so the node does not forward packets of pods: sysctl -w ${name}=1`);
    }
  }
  if (!needs.hasSocketLb) problems.push(...needs.serviceAddresses.flatMap(routeProblem));
  return problems;
}

/** Error codes for an address that the node cannot reach: it has no route, or a route of the type unreachable, prohibit or blackhole. */
const unroutable: ReadonlySet<string> = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL']);

/** Without a route a node process gets ENETUNREACH before any of our programs runs. */
function routeProblem(address: string): string[] {
  const family = familyOf(address) === 'IPv6' ? '-6 ' : '';
  try {
    if (routeTo(addressBytes(address)).type === RTN_UNICAST) return [];
  } catch (error) {
    if (!(error instanceof KernelError) || !unroutable.has(error.code))
      return [`whether this node has a route to the Service address ${address} cannot be determined: ${messageOf(error)}`];
  }
  return [
    `this node has no route to the Service address ${address}, so its own processes cannot reach it: add a route (ip ${family}route add SERVICE-CIDR dev UPLINK), or set --socket-lb on`,
  ];
}

export interface ForwardingOptions {
  /** Canonical Service CIDRs of the settings. */
  readonly serviceCidr: readonly string[];
  readonly hasSocketLb: boolean;
  readonly hasDevices: boolean;
  /** The Service ports that are desired at the moment. */
  readonly ports: () => Iterable<DesiredPort>;
}

/** The forwarding problems of the Services that are desired now. */
export class Forwarding implements StatusPart {
  readonly #options: ForwardingOptions;

  constructor(options: ForwardingOptions) {
    this.#options = options;
  }

  problems(): string[] {
    const { serviceCidr, hasSocketLb, hasDevices, ports } = this.#options;
    const inUse = new Map<Family, string>();
    for (const port of ports()) {
      const address = port.frontends[0]?.address;
      if (address !== undefined && !inUse.has(port.family)) inUse.set(port.family, address);
      if (inUse.size === families.length) break;
    }
    const ranges = serviceCidr.map((range) => parseAddress(range.split('/')[0] ?? '')?.text).filter((text) => text !== undefined);
    return forwardingProblems({
      serviceAddresses: ranges.length > 0 ? ranges : [...inUse.values()],
      ...{ hasSocketLb, hasDevices, families: new Set([...inUse.keys(), ...ranges.map(familyOf)]) },
    });
  }
}
