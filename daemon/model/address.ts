// SPDX-License-Identifier: Apache-2.0
// IP addresses as rows hold them: canonical text (IPv4 dotted, IPv6 compressed lower case), compared with ===.
// Parsing is ipaddr.js's; this file only fixes Kubernetes' reading of leading zeros and the byte form that maps need.
import ipaddr from 'ipaddr.js';

export type Family = 'IPv4' | 'IPv6';
export const families: readonly Family[] = ['IPv4', 'IPv6'];

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

/** Network-order bytes (4 or 16) of a canonical address. Throws on text that parseAddress did not make. */
export function addressBytes(text: string): Uint8Array {
  return Uint8Array.from(ipaddr.parse(text).toByteArray());
}

/** Canonical text of 4 or 16 network-order bytes. An IPv4-mapped 16-byte address stays IPv6 (a map key says its family). */
export function addressText(bytes: Uint8Array): string {
  return bytes.length === 4 ? bytes.join('.') : new ipaddr.IPv6([...bytes]).toRFC5952String();
}

export function familyOf(text: string): Family {
  return text.includes(':') ? 'IPv6' : 'IPv4';
}

/** "10.0.0.1:80" or "[fd00::1]:80". */
export function hostPort(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}
