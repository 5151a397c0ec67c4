// SPDX-License-Identifier: Apache-2.0
// Tests which address of a device masqueraded packets get.
import { expect, test } from 'vitest';
import type { InterfaceAddress } from '../../../daemon/kernel/rtnetlink.ts';
import { addressBytes } from '../../../daemon/model/address.ts';
import { masqueradeSources } from '../../../daemon/source/netlink/masquerade-sources.ts';

const row = (cidr: string, fields: Partial<InterfaceAddress> = {}): InterfaceAddress => {
  const [address = '', length = ''] = cidr.split('/');
  return { ifindex: 2, address: addressBytes(address), prefixLength: Number(length), flags: 0x80, scope: 0, ...fields };
};

test.for<{ name: string; found: InterfaceAddress[]; want: Record<string, string> }>([
  {
    name: 'one address',
    found: [row('10.0.0.1/24')],
    want: { '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'two subnets, of which the first is used for other next hops',
    found: [row('10.0.0.1/24'), row('10.1.0.1/16')],
    want: { '2 10.0.0.0/24': '10.0.0.1', '2 10.1.0.0/16': '10.1.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'a secondary address of the same subnet is not used',
    found: [row('10.0.0.1/24'), row('10.0.0.2/24', { flags: 0x81 })],
    want: { '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'a host address',
    found: [row('10.0.0.1/32')],
    want: { '2 10.0.0.1/32': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'addresses of IPv6 that new connections should not use',
    found: [
      row('fd00::1/64', { flags: 0x20 }),
      row('fd00::2/64', { flags: 0x40 }),
      row('fd00::3/64', { flags: 0x08 }),
      row('fd00::4/64', { flags: 0x01 }),
      row('fd00::5/64'),
    ],
    want: { '2 fd00::/64': 'fd00::5', '2 ::/0': 'fd00::5', '0 fd00::/64': 'fd00::5' },
  },
  {
    name: 'addresses that are not global',
    found: [
      row('169.254.1.1/32'),
      row('fe80::1/64', { scope: 253 }),
      row('127.0.0.1/8', { ifindex: 1, scope: 254 }),
      row('10.5.0.1/24', { scope: 253 }),
    ],
    want: {},
  },
  {
    name: 'devices are apart, and a device without an address uses that of the first device',
    found: [row('10.0.0.9/24', { ifindex: 3 }), row('10.0.0.1/24')],
    want: {
      ...{ '0 0.0.0.0/0': '10.0.0.1', '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1' },
      ...{ '3 10.0.0.0/24': '10.0.0.9', '3 0.0.0.0/0': '10.0.0.9' },
    },
  },
])('$name', ({ found, want }) => {
  const rows = [...masqueradeSources(found)].map(([key, { address }]) => [key, address]);
  expect(Object.fromEntries(rows)).toEqual(want);
});
