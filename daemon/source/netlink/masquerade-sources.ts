// SPDX-License-Identifier: Apache-2.0
// Which address of a device masqueraded packets get, as netfilter's MASQUERADE selects it: for IPv4 the one whose subnet holds the next hop,
// else the first; for IPv6 the one whose prefix holds the destination, else the first. Addresses that are not of global scope, or that new
// connections should not use, are left out. Pure.
import type { InterfaceAddress } from '../../kernel/rtnetlink.ts';
import { addressText, familyOf, isLinkLocal, isLoopback, parseCidr } from '../../model/address.ts';
import { type MasqueradeSource, sourceKey } from '../../model/masquerade.ts';

const SCOPE_GLOBAL = 0;
/** IFA_F_SECONDARY is IFA_F_TEMPORARY for IPv6: MASQUERADE does not use either. */
const UNUSABLE = { secondary: 0x01, dadFailed: 0x08, deprecated: 0x20, tentative: 0x40 };
const unusableFlags = Object.values(UNUSABLE).reduce((all, flag) => all | flag, 0);

/**
 * The addresses of each device are in the order of the kernel. Returns the rows by key. A device without an address uses that of another
 * device: for IPv4 the first one of all devices, for IPv6 the one whose prefix holds the destination.
 */
export function masqueradeSources(found: readonly InterfaceAddress[]): Map<string, MasqueradeSource> {
  const rows = new Map<string, MasqueradeSource>();
  const add = (row: MasqueradeSource): void => {
    if (!rows.has(sourceKey(row))) rows.set(sourceKey(row), row);
  };
  for (const { ifindex, address: bytes, prefixLength, flags, scope } of found.toSorted((a, b) => a.ifindex - b.ifindex)) {
    if (bytes.length === 0 || scope !== SCOPE_GLOBAL || (flags & unusableFlags) !== 0) continue;
    const address = addressText(bytes);
    if (isLoopback(address) || isLinkLocal(address)) continue;
    const four = familyOf(address) === 'IPv4';
    const all = four ? '0.0.0.0/0' : '::/0';
    const subnet = parseCidr(`${address}/${prefixLength}`)?.text ?? all;
    add({ ifindex, cidr: subnet, address });
    add({ ifindex, cidr: all, address });
    add({ ifindex: 0, cidr: four ? all : subnet, address });
  }
  return rows;
}
