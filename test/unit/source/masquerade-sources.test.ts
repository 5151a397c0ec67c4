// SPDX-License-Identifier: Apache-2.0
// Tests which address of a device masqueraded packets get. test/kernel/masquerade-sources.test.ts compares IPv6 with the kernel.
import { expect, test } from 'vitest';
import type { InterfaceAddress } from '../../../daemon/kernel/rtnetlink.ts';
import { addressBytes, hostCidr } from '../../../daemon/model/address.ts';
import { masqueradeSources } from '../../../daemon/source/netlink/masquerade-sources.ts';

const row = (cidr: string, fields: Partial<InterfaceAddress> = {}): InterfaceAddress => {
  const [text = '', length = ''] = cidr.split('/');
  const address = addressBytes(text);
  return { ifindex: 2, address, peer: address, prefixLength: Number(length), flags: 0x80, scope: 0, ...fields };
};
/** The rows by which the datapath recognises that a device has these addresses. */
const own = (ifindex: number, ...addresses: readonly string[]): Record<string, string> =>
  Object.fromEntries([ifindex, 0].flatMap((device) => addresses.map((address) => [`${device} ${hostCidr(address)}`, address])));

test.for<{ name: string; found: InterfaceAddress[]; want: Record<string, string> }>([
  {
    name: 'one address',
    found: [row('10.0.0.1/24')],
    want: { ...own(2, '10.0.0.1'), '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'two subnets, of which the first is used for other next hops',
    found: [row('10.0.0.1/24'), row('10.1.0.1/16')],
    want: {
      ...own(2, '10.0.0.1', '10.1.0.1'),
      ...{ '2 10.0.0.0/24': '10.0.0.1', '2 10.1.0.0/16': '10.1.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
    },
  },
  {
    name: 'a secondary address of the same subnet is not used',
    found: [row('10.0.0.1/24'), row('10.0.0.2/24', { flags: 0x81 })],
    want: {
      ...own(2, '10.0.0.1', '10.0.0.2'),
      ...{ '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
    },
  },
  {
    name: 'a host address',
    found: [row('10.0.0.1/32')],
    want: { ...own(2, '10.0.0.1'), '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
  },
  {
    name: 'a point-to-point link: the subnet is that of the other end',
    found: [row('10.0.0.1/24'), row('10.5.0.1/32', { peer: addressBytes('10.9.0.2') })],
    want: {
      ...own(2, '10.0.0.1', '10.5.0.1'),
      ...{ '2 10.0.0.0/24': '10.0.0.1', '2 10.9.0.2/32': '10.5.0.1', '2 0.0.0.0/0': '10.0.0.1', '0 0.0.0.0/0': '10.0.0.1' },
    },
  },
  {
    name: 'addresses of IPv6 that cannot be used, that are avoided, and that are temporary',
    found: [
      row('fd00::1/64', { flags: 0x20 }),
      row('fd00::2/64', { flags: 0x40 }),
      row('fd00::3/64', { flags: 0x48 }),
      row('fd00::4/64', { flags: 0x01 }),
      row('fd00::5/64'),
    ],
    want: { ...own(2, 'fd00::1', 'fd00::4', 'fd00::5'), '0 ::/0': 'fd00::5' },
  },
  {
    name: 'addresses of IPv6 on two devices: the longest match with the destination decides where the device does not',
    found: [row('fd00:1::1/64'), row('fd00:8::1/64', { ifindex: 3 })],
    want: {
      ...own(2, 'fd00:1::1'),
      ...own(3, 'fd00:8::1'),
      ...{ '0 ::/0': 'fd00:1::1', '0 fd00:8::/29': 'fd00:8::1', '2 ::/0': 'fd00:1::1', '3 ::/0': 'fd00:8::1' },
    },
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
      ...own(2, '10.0.0.1'),
      ...own(3, '10.0.0.9'),
      ...{ '0 0.0.0.0/0': '10.0.0.1', '2 10.0.0.0/24': '10.0.0.1', '2 0.0.0.0/0': '10.0.0.1' },
      ...{ '3 10.0.0.0/24': '10.0.0.9', '3 0.0.0.0/0': '10.0.0.9' },
    },
  },
])('$name', ({ found, want }) => {
  const labels = [{ address: new Uint8Array(16), prefixLength: 0, label: 1 }];
  const rows = [...masqueradeSources({ addresses: found, labels, temporary: new Set() })].map(([key, { address }]) => [key, address]);
  expect(Object.fromEntries(rows)).toEqual(want);
});
