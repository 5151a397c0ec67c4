// SPDX-License-Identifier: Apache-2.0
// Which address of a device masqueraded packets get, as netfilter's MASQUERADE selects it: for IPv4 the one whose subnet holds the next hop,
// else the first; for IPv6 the one that ipv6-sources.ts selects for the destination. Addresses that are not of global scope are left out.
// Also one row for each address that the node has, with the address as destination, by which the datapath recognises that an address has
// gone. Pure.
import type { AddressLabel, InterfaceAddress } from '../../kernel/rtnetlink.ts';
import { addressText, hostCidr, isLinkLocal, isLoopback, parseCidr } from '../../model/address.ts';
import { type MasqueradeSource, sourceKey } from '../../model/masquerade.ts';
import { Ipv6Sources } from './ipv6-sources.ts';

/** RT_SCOPE_*. Site-local addresses exist in IPv6 only. */
const SCOPE_GLOBAL = 0;
const SCOPE_SITE = 200;
/** IFA_F_*. */
const flag = { secondary: 0x01, optimistic: 0x04, dadFailed: 0x08, tentative: 0x40 };

export interface MasqueradeAddresses {
  /** In the order of the kernel within a device. */
  readonly addresses: readonly InterfaceAddress[];
  readonly labels: readonly AddressLabel[];
  /** Devices on which temporary IPv6 addresses are preferred. */
  readonly temporary: ReadonlySet<number>;
}

/** Returns the rows by key. A device without rows uses the rows with ifindex 0. */
export function masqueradeSources({ addresses, labels, temporary }: MasqueradeAddresses): Map<string, MasqueradeSource> {
  const rows = new Map<string, MasqueradeSource>();
  const add = (row: MasqueradeSource): void => {
    if (!rows.has(sourceKey(row))) rows.set(sourceKey(row), row);
  };
  const usable = addresses.filter(isUsable).toSorted((a, b) => a.ifindex - b.ifindex);
  const { 4: four = [], 16: six = [] } = Object.groupBy(usable, ({ address }) => address.length);
  for (const { ifindex, address: bytes } of usable) {
    const address = addressText(bytes);
    for (const device of [ifindex, 0]) add({ ifindex: device, cidr: hostCidr(address), address });
  }
  const all = '0.0.0.0/0';
  for (const { ifindex, address: bytes, peer, prefixLength, flags } of four) {
    if ((flags & flag.secondary) !== 0) continue;
    const address = addressText(bytes);
    add({ ifindex, cidr: parseCidr(`${addressText(peer)}/${prefixLength}`)?.text ?? all, address });
    add({ ifindex, cidr: all, address });
    add({ ifindex: 0, cidr: all, address });
  }
  for (const row of new Ipv6Sources({ addresses: six, labels, temporary }).rows()) add(row);
  return rows;
}

/** Whether the node has the address for use by others: its scope is great enough, and no other node of its subnet has it. */
function isUsable({ address: bytes, scope, flags }: InterfaceAddress): boolean {
  const hasScope = scope === SCOPE_GLOBAL || (scope === SCOPE_SITE && bytes.length === 16);
  if (bytes.length === 0 || !hasScope || (flags & flag.dadFailed) !== 0) return false;
  if ((flags & flag.tentative) !== 0 && (flags & flag.optimistic) === 0) return false;
  const address = addressText(bytes);
  return !isLoopback(address) && !isLinkLocal(address);
}
