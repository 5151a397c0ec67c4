// SPDX-License-Identifier: Apache-2.0
// IP addresses as rows hold them: canonical text (IPv4 dotted, IPv6 compressed lower case), compared with ===.
// Parsing is ipaddr.js's; this file only fixes Kubernetes' reading of leading zeros and the byte form that maps need.
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
 * Reads an address as kube-proxy does: IPv4 leading zeros are decimal (kube-proxy-semantics.md, 14), an IPv4-mapped
 * IPv6 address is IPv4. Undefined when it is not an address.
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
 * Reads a CIDR as kube-proxy does: decimal leading zeros ("203.0.113.000/025" is 203.0.113.0/25), host bits cleared.
 * Undefined when it is none; an address without a length is none.
 */
export function parseCidr(text: string): Address | undefined {
  const [, host = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const address = parseAddress(host);
  // A mapped address has become IPv4 and lost 96 bits of prefix.
  const bits = Number(length) - (address?.family === 'IPv4' && host.includes(':') ? 96 : 0);
  if (address === undefined || length === '' || bits < 0 || bits > bitsOf(address.family)) return undefined;
  const network = addressText(masked(addressBytes(address.text), { bits, fill: 0 }));
  return { family: address.family, text: `${network}/${bits}` };
}

/** "10.0.0.1" -> "10.0.0.1/32". */
export const hostCidr = (address: string): string => `${address}/${bitsOf(familyOf(address))}`;

/** First and last address of a canonical CIDR. */
export function cidrBounds(cidr: string): { readonly first: string; readonly last: string } {
  const [first = '', length] = cidr.split('/');
  return { first, last: addressText(masked(addressBytes(first), { bits: Number(length), fill: 0xff })) };
}

/** Whether a canonical CIDR holds a canonical address; never one of the other family. */
export function cidrContains(cidr: string, address: string): boolean {
  const [first = '', length] = cidr.split('/');
  if (familyOf(first) !== familyOf(address)) return false;
  return addressText(masked(addressBytes(address), { bits: Number(length), fill: 0 })) === first;
}

const bitsOf = (family: Family): number => (family === 'IPv4' ? 32 : 128);

/** The bytes with all behind the first `bits` bits cleared, or set when `fill` is 0xff. */
const masked = (bytes: Uint8Array, { bits, fill }: { readonly bits: number; readonly fill: 0 | 0xff }): Uint8Array =>
  bytes.map((byte, index) => {
    const host = 0xff >> Math.min(8, Math.max(0, bits - 8 * index));
    return (byte & ~host) | (fill & host);
  });

/** Order by value, not by text: 10.0.0.9 before 10.0.0.10. Both of one family. */
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

/** A canonical IPv4 address as a number of 32 bits; undefined for any other text. Digit by digit: there are 100,000 endpoints. */
export function numberOf4(text: string): number | undefined {
  let number = 0;
  let dots = 0;
  // -1: its first digit is yet to come.
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

/** Network-order bytes (4 or 16) of a canonical address. Throws on text that parseAddress did not make. */
export function addressBytes(text: string): Uint8Array {
  const number = numberOf4(text);
  if (number !== undefined) return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/** Canonical text of 4 or 16 network-order bytes. An IPv4-mapped 16-byte address stays IPv6 (a map key says its family). */
export function addressText(bytes: Uint8Array): string {
  return bytes.length === 4 ? `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}` : new ipaddr.IPv6([...bytes]).toRFC5952String();
}

export function familyOf(text: string): Family {
  return text.includes(':') ? 'IPv6' : 'IPv4';
}

/** "10.0.0.1:80" or "[fd00::1]:80". */
export function hostPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
