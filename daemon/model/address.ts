// SPDX-License-Identifier: Apache-2.0
// IP addresses in rows: canonical text (IPv4 dotted decimal; IPv6 as RFC 5952), compared with ===. ipaddr.js parses IPv6
// addresses. This file parses IPv4 addresses, with leading zeros as in Kubernetes, and converts addresses to the bytes that maps
// need. Pure. Used everywhere.
import ipaddr from 'ipaddr.js';

export type Family = 'IPv4' | 'IPv6';
export const families: readonly Family[] = ['IPv4', 'IPv6'];

/** An address or a CIDR. */
export interface Address {
  readonly family: Family;
  /** Canonical text. */
  readonly text: string;
}

/**
 * Parses an address as kube-proxy does: IPv4 octets with leading zeros are decimal (test/README.md, 14), and an IPv4-mapped IPv6 address
 * is an IPv4 address. Undefined when the text is not an address.
 */
export function parseAddress(text: string): Address | undefined {
  if (numberOf4(text) !== undefined) return { family: 'IPv4', text };
  if (/^\d+(\.\d+){3}$/.test(text)) {
    const octets = text.split('.').map(Number);
    return octets.every((octet) => octet <= 255) ? { family: 'IPv4', text: octets.join('.') } : undefined;
  }
  if (!text.includes(':') || text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined;
  const address = ipaddr.IPv6.parse(text);
  return address.isIPv4MappedAddress()
    ? { family: 'IPv4', text: address.toIPv4Address().toString() }
    : { family: 'IPv6', text: address.toRFC5952String() };
}

/**
 * Parses a CIDR as kube-proxy does: leading zeros are decimal ("203.0.113.000/025" is 203.0.113.0/25), and host bits are cleared.
 * Undefined when the text is not a CIDR. An address without a prefix length is not a CIDR.
 */
export function parseCidr(text: string): Address | undefined {
  const [, host = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseAddress(host);
  // The prefix length of an IPv4-mapped address counts 96 bits that the IPv4 address does not have.
  const bits = Number(length) - (address?.family === 'IPv4' && host.includes(':') ? 96 : 0);
  if (address === undefined || length === '' || bits < 0 || bits > bitsOf(address.family)) return undefined;
  const network = addressText(masked(addressBytes(address.text), { bits, fill: 0 }));
  return { family: address.family, text: `${network}/${bits}` };
}

/**
 * Ranges of addresses that cannot be the address of a Service, because they do not identify one other host. The second element names the
 * kind of address.
 */
const specialRanges: readonly (readonly [range: string, what: string])[] = [
  ['0.0.0.0/32', 'the unspecified address'],
  ['::/128', 'the unspecified address'],
  ['127.0.0.0/8', 'a loopback address'],
  ['::1/128', 'a loopback address'],
  ['169.254.0.0/16', 'a link-local address'],
  ['fe80::/10', 'a link-local address'],
  ['224.0.0.0/4', 'a multicast address'],
  ['ff00::/8', 'a multicast address'],
  ['255.255.255.255/32', 'the broadcast address'],
];

/** "a loopback address" for a canonical address that cannot be the address of a Service; undefined for every other address. */
export const specialKindOf = (address: string): string | undefined => specialRanges.find(([range]) => cidrContains(range, address))?.[1];

export const isLoopback = (address: string): boolean => specialKindOf(address) === 'a loopback address';
export const isLinkLocal = (address: string): boolean => specialKindOf(address) === 'a link-local address';

/** The CIDR of one address: "10.0.0.1" -> "10.0.0.1/32". */
export const hostCidr = (address: string): string => `${address}/${bitsOf(familyOf(address))}`;

/** First and last address of a canonical CIDR. */
export function cidrBounds(cidr: string): { readonly first: string; readonly last: string } {
  const [first = '', length] = cidr.split('/');
  return { first, last: addressText(masked(addressBytes(first), { bits: Number(length), fill: 0xff })) };
}

/** Whether a canonical CIDR contains a canonical address. False for addresses of the other IP family. */
export function cidrContains(cidr: string, address: string): boolean {
  const [first = '', length] = cidr.split('/');
  if (familyOf(first) !== familyOf(address)) return false;
  return addressText(masked(addressBytes(address), { bits: Number(length), fill: 0 })) === first;
}

const bitsOf = (family: Family): number => (family === 'IPv4' ? 32 : 128);

/** A copy of the bytes in which all bits after the first `bits` are cleared, or set when `fill` is 0xff. */
const masked = (bytes: Uint8Array, { bits, fill }: { readonly bits: number; readonly fill: 0 | 0xff }): Uint8Array =>
  bytes.map((byte, index) => {
    const host = 0xff >> Math.min(8, Math.max(0, bits - 8 * index));
    return (byte & ~host) | (fill & host);
  });

/** Orders two addresses of the same family by value, not by text: 10.0.0.9 is before 10.0.0.10. */
export function compareAddresses(a: string, b: string): number {
  if (a === b) return 0;
  const first = numberOf4(a);
  const second = numberOf4(b);
  if (first !== undefined && second !== undefined) return first - second;
  const [left, right] = [addressBytes(a), addressBytes(b)];
  const at = left.findIndex((byte, i) => byte !== right[i]);
  return at === -1 ? 0 : (left[at] ?? 0) - (right[at] ?? 0);
}

const DOT = 0x2e;
const ZERO = 0x30;

/** A canonical IPv4 address as a 32-bit number; undefined for any other text. Written for speed: a cluster may have 100,000 endpoints. */
export function numberOf4(text: string): number | undefined {
  let number = 0;
  let dots = 0;
  // -1: no digit of this octet has been read.
  let octet = -1;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code === DOT && octet >= 0) {
      number = number * 256 + octet;
      dots += 1;
      octet = -1;
      continue;
    }
    const digit = code - ZERO;
    if (digit < 0 || digit > 9 || octet === 0) return undefined;
    octet = octet < 0 ? digit : octet * 10 + digit;
    if (octet > 255) return undefined;
  }
  return dots === 3 && octet >= 0 ? number * 256 + octet : undefined;
}

/** Bytes of a canonical address (4 or 16) in network byte order. Throws for text that is not an address. */
export function addressBytes(text: string): Uint8Array {
  const number = numberOf4(text);
  if (number !== undefined) return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/**
 * Canonical text of 4 or 16 bytes in network byte order. An IPv4-mapped address of 16 bytes stays IPv6, because it comes from an
 * IPv6 map.
 */
export function addressText(bytes: Uint8Array): string {
  return bytes.length === 4 ? `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` : new ipaddr.IPv6([...bytes]).toRFC5952String();
}

export function familyOf(text: string): Family {
  return text.includes(':') ? 'IPv6' : 'IPv4';
}

/** Address and port: "10.0.0.1:80" or "[fd00::1]:80". */
export function hostPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
