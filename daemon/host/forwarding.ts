// SPDX-License-Identifier: Apache-2.0
// What the host must have and Sluice does not set by itself: forwarding, and for the node's own processes a route to the
// Service addresses (design.md, 3.15). Each thing that is missing is one sentence with the command that repairs it. Reads
// only; asked at start and whenever status is.
import { addressBytes, type Family, familyOf } from '../model/address.ts';
import { readSysctl } from '../kernel/host.ts';
import { routeTo } from '../kernel/rtnetlink.ts';

export interface HostCheckOptions {
  /** Addresses that node processes must be able to route: one of each Service CIDR, or the first ClusterIPs. */
  readonly serviceAddresses: readonly string[];
  /** Translation at connect() needs no route to the VIP. */
  readonly hasSocketLb: boolean;
  /** Families in use. */
  readonly families: ReadonlySet<Family>;
  /** Packets pass through tc programs at all. */
  readonly hasDevices: boolean;
}

const forwarding: Readonly<Record<Family, string>> = {
  IPv4: 'net.ipv4.ip_forward',
  IPv6: 'net.ipv6.conf.all.forwarding',
};

const RTN_UNICAST = 1;

/** Sentences, none when the host is ready. */
export function hostProblems(options: HostCheckOptions): string[] {
  const problems: string[] = [];
  if (options.hasDevices) {
    for (const family of options.families) {
      const name = forwarding[family];
      if (readSysctl(name) === '0') problems.push(`${name} is 0, so packets of pods go nowhere: sysctl -w ${name}=1`);
    }
  }
  if (!options.hasSocketLb) problems.push(...options.serviceAddresses.flatMap(routeProblem));
  return problems;
}

/** Without a route a node process gets ENETUNREACH before any program of ours sees a packet. */
function routeProblem(address: string): string[] {
  const family = familyOf(address) === 'IPv6' ? '-6 ' : '';
  try {
    if (routeTo(addressBytes(address)).type === RTN_UNICAST) return [];
  } catch {
    // No route at all; said below.
  }
  return [
    `this node has no route to the Service address ${address}, so its own processes cannot reach it: ip ${family}route add the Service CIDR by an uplink, or use --socket-lb on`,
  ];
}
