// SPDX-License-Identifier: Apache-2.0
// Addresses are compared with ===, so each address must have exactly one text. The bytes of an address in a map must be converted
// to the same text.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  addressBytes,
  addressText,
  cidrBounds,
  cidrContains,
  compareAddresses,
  familyOf,
  hostCidr,
  hostPort,
  numberOf4,
  parseAddress,
  parseCidr,
  specialKindOf,
} from '../../../daemon/model/address.ts';

describe('numberOf4', () => {
  test('numberOf4 returns the value of every canonical address', () => {
    const number = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(fc.property(number, (n) => numberOf4([n >>> 24, (n >>> 16) & 255, (n >>> 8) & 255, n & 255].join('.')) === n));
  });

  test('numberOf4 returns undefined for every other text', () => {
    const octet = '(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])';
    const canonical = new RegExp(`^${octet}(\\.${octet}){3}$`);
    const part = fc.oneof(fc.constantFrom('', '0', '00', '01', '255', '256', '1', '-1', 'a', ':', ' '), fc.nat(300).map(String));
    const text = fc.array(part, { maxLength: 6 }).map((parts) => parts.join('.'));
    fc.assert(
      fc.property(text, (each) => (numberOf4(each) !== undefined) === canonical.test(each)),
      { numRuns: 2000 },
    );
  });
});

describe('parseAddress', () => {
  test.for([
    { text: '10.0.0.1', family: 'IPv4', want: '10.0.0.1' },
    { text: '0.0.0.0', family: 'IPv4', want: '0.0.0.0' },
    { text: '255.255.255.255', family: 'IPv4', want: '255.255.255.255' },
    { text: '010.001.000.012', family: 'IPv4', want: '10.1.0.12' },
    { text: '::', family: 'IPv6', want: '::' },
    { text: '::1', family: 'IPv6', want: '::1' },
    { text: 'FD00:0:0::A', family: 'IPv6', want: 'fd00::a' },
    { text: '2001:db8:0:0:1:0:0:1', family: 'IPv6', want: '2001:db8::1:0:0:1' },
    { text: '2001:db8:0:1:1:1:1:1', family: 'IPv6', want: '2001:db8:0:1:1:1:1:1' },
    { text: '::ffff:10.0.0.1', family: 'IPv4', want: '10.0.0.1' },
    { text: '::ffff:a00:1', family: 'IPv4', want: '10.0.0.1' },
  ])('$text is $want', ({ text, family, want }) => {
    expect(parseAddress(text)).toEqual({ family, text: want });
  });

  test.for([
    '',
    ' ',
    'None',
    '10.0.0',
    '10.0.0.0.1',
    '10.0.0.256',
    '10.0.0.-1',
    '10.0.0.1 ',
    '10.0.0.1/32',
    '0x0a.0.0.1',
    '167772161',
    '1.2.3.4:80',
    ':',
    ':::',
    '::1::',
    'fe80::1%eth0',
    '[::1]',
    '1:2:3:4:5:6:7:8:9',
    'g::',
    '::1/128',
    '::10.0.0.256',
  ])('%o is not an address', (text) => {
    expect(parseAddress(text)).toBeUndefined();
  });

  test('parsing the result of parseAddress again returns the same address', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const address = parseAddress(text);
        expect(address).toBeDefined();
        expect(parseAddress(address?.text ?? '')).toEqual(address);
        expect(familyOf(address?.text ?? '')).toBe(address?.family);
      }),
    );
  });
});

describe('CIDRs', () => {
  test.for([
    { text: '10.0.0.0/8', want: '10.0.0.0/8' },
    { text: '10.1.2.3/8', want: '10.0.0.0/8' },
    { text: '203.0.113.000/025', want: '203.0.113.0/25' },
    { text: '203.0.113.255/25', want: '203.0.113.128/25' },
    { text: '0.0.0.0/0', want: '0.0.0.0/0' },
    { text: '10.0.0.1/32', want: '10.0.0.1/32' },
    { text: 'FD00:0::1/64', want: 'fd00::/64' },
    { text: 'fd00::ffff/113', want: 'fd00::8000/113' },
    { text: '::/0', want: '::/0' },
    { text: '::ffff:10.1.2.3/104', want: '10.0.0.0/8' },
  ])('$text is $want', ({ text, want }) => {
    expect(parseCidr(text)).toEqual({ family: familyOf(want), text: want });
  });

  test.for([
    '',
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    'fd00::/129',
    '10.0.0/8',
    '/8',
    '::ffff:10.0.0.0/8',
    ' 10.0.0.0/8',
  ])('%o is not a CIDR', (text) => expect(parseCidr(text)).toBeUndefined());

  test.for([
    { cidr: '10.0.0.0/8', address: '10.255.255.255', want: true },
    { cidr: '10.0.0.0/8', address: '11.0.0.0', want: false },
    { cidr: '0.0.0.0/0', address: '192.0.2.1', want: true },
    { cidr: '0.0.0.0/0', address: 'fd00::1', want: false },
    { cidr: 'fd00::/64', address: 'fd00::1:2:3:4', want: true },
    { cidr: 'fd00::/64', address: 'fd00:0:0:1::', want: false },
    { cidr: '10.0.0.1/32', address: '10.0.0.1', want: true },
  ])('$cidr contains $address: $want', ({ cidr, address, want }) => {
    expect(cidrContains(cidr, address)).toBe(want);
  });

  test('a CIDR has a lowest and a highest address, and a single address has a CIDR', () => {
    expect(cidrBounds('10.96.0.0/12')).toEqual({ first: '10.96.0.0', last: '10.111.255.255' });
    expect(cidrBounds('fd00::/120')).toEqual({ first: 'fd00::', last: 'fd00::ff' });
    expect(cidrBounds(hostCidr('fd00::1'))).toEqual({ first: 'fd00::1', last: 'fd00::1' });
  });
});

test('addresses are ordered by value', () => {
  expect(['10.0.0.10', '10.0.0.9', '9.0.0.0'].toSorted(compareAddresses)).toEqual(['9.0.0.0', '10.0.0.9', '10.0.0.10']);
  expect(['fd00::1:0', 'fd00::10', 'fd00::9'].toSorted(compareAddresses)).toEqual(['fd00::9', 'fd00::10', 'fd00::1:0']);
});

describe('bytes', () => {
  test.for([
    { text: '10.1.2.255', bytes: [10, 1, 2, 255] },
    { text: 'fd00::1', bytes: [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] },
  ])('$text is converted to bytes in network byte order', ({ text, bytes }) => {
    expect([...addressBytes(text)]).toEqual(bytes);
  });

  test('4 or 16 bytes are unchanged after conversion to text and back', () => {
    const sized = (size: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: size, maxLength: size });
    fc.assert(
      fc.property(fc.oneof(sized(4), sized(16)), (bytes) => {
        expect([...addressBytes(addressText(bytes))]).toEqual([...bytes]);
      }),
    );
  });

  test('text that is not an address is rejected', () => {
    expect(() => addressBytes('pod-1')).toThrow(/neither IPv6 nor IPv4/);
  });
});

test.for([
  { address: '10.0.0.1', port: 80, want: '10.0.0.1:80' },
  { address: 'fd00::1', port: 443, want: '[fd00::1]:443' },
])('hostPort returns $want', ({ address, port, want }) => {
  expect(hostPort(address, port)).toBe(want);
});

test.for([
  { given: '0.0.0.0', want: 'the unspecified address' },
  { given: '::', want: 'the unspecified address' },
  { given: '::ffff:0.0.0.0', want: 'the unspecified address' },
  { given: '127.0.0.1', want: 'a loopback address' },
  { given: '127.255.255.255', want: 'a loopback address' },
  { given: '127.000.000.001', want: 'a loopback address' },
  { given: '::1', want: 'a loopback address' },
  { given: '::ffff:127.0.0.1', want: 'a loopback address' },
  { given: '::ffff:7f00:1', want: 'a loopback address' },
  { given: '169.254.169.254', want: 'a link-local address' },
  { given: 'fe80::1', want: 'a link-local address' },
  { given: 'febf::1', want: 'a link-local address' },
  { given: '::ffff:169.254.0.1', want: 'a link-local address' },
  { given: '224.0.0.1', want: 'a multicast address' },
  { given: '239.255.255.255', want: 'a multicast address' },
  { given: 'ff01::1', want: 'a multicast address' },
  { given: 'ff02::1', want: 'a multicast address' },
  { given: '::ffff:224.0.0.1', want: 'a multicast address' },
  { given: '255.255.255.255', want: 'the broadcast address' },
  { given: '::ffff:255.255.255.255', want: 'the broadcast address' },
  ...['0.0.0.1', '10.0.0.255', '126.255.255.255', '128.0.0.1', '169.253.0.1', '223.255.255.255', '240.0.0.1', '255.255.255.254'].map(
    (given) => ({ given, want: undefined }),
  ),
  ...['::2', 'fd00::1', 'fec0::1', 'fe00::1', '2001:db8::', '64:ff9b::1'].map((given) => ({ given, want: undefined })),
])('$given is $want', ({ given, want }) => {
  expect(specialKindOf(parseAddress(given)?.text ?? '')).toBe(want);
});
