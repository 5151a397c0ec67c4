// SPDX-License-Identifier: Apache-2.0
// Packets for tests: builds packets from fields, and parses packets with every checksum verified. Checksums are computed over the complete
// packet, so they verify the incremental updates of the datapath. This file must not depend on Sluice, except for address texts. Used by
// kernel tests and the benchmarks.
import { addressBytes, addressText } from '../../daemon/model/address.ts';

export interface Packet {
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  readonly source: string;
  readonly destination: string;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  /** For TCP: bits of the flags byte. */
  readonly flags?: number;
  readonly sequence?: number;
  readonly acknowledge?: number;
  /** TTL or hop limit of the packet. Default: 64. */
  readonly hops?: number;
  /** For ICMP: the last four bytes of the header, for example the MTU. */
  readonly rest?: number;
  /** For UDP over IPv4: the packet has no checksum. */
  readonly hasNoChecksum?: boolean;
  /** IPv4 options or IPv6 extension headers. The length must be a multiple of 4 bytes for IPv4 and of 8 bytes for IPv6. */
  readonly options?: Uint8Array;
  /** For ICMP: type and code. */
  readonly type?: number;
  readonly code?: number;
  readonly payload?: Uint8Array;
  /** Ethernet addresses: the last byte of 02:00:00:00:00:xx. */
  readonly mac?: { readonly source: number; readonly destination: number };
}

/** Verdicts of tc programs (linux/pkt_cls.h). */
export const TC_ACT_UNSPEC = -1;
export const TC_ACT_SHOT = 2;
export const TC_ACT_REDIRECT = 7;

export const tcpFlags = { FIN: 1, SYN: 2, RST: 4, ACK: 16 } as const;
const numbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

/** Internet checksum (RFC 1071) of several parts. All parts except the last must have an even length. */
export function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const concat = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const isV6 = (address: string): boolean => address.includes(':');
const put16 = (bytes: Uint8Array, at: number, value: number): void => new DataView(bytes.buffer, bytes.byteOffset).setUint16(at, value);
const put32 = (bytes: Uint8Array, at: number, value: number): void => new DataView(bytes.buffer, bytes.byteOffset).setUint32(at, value);

function pseudo(source: string, destination: string, tail: { protocol: number; length: number }): Uint8Array {
  const end = new Uint8Array(8);
  put32(end, 0, tail.length);
  put32(end, 4, tail.protocol);
  return concat(addressBytes(source), addressBytes(destination), end);
}

const protocolNumber = (packet: Packet): number => (packet.protocol === 'ICMP' ? (isV6(packet.source) ? 58 : 1) : numbers[packet.protocol]);

function l4(packet: Packet): Uint8Array {
  const payload = packet.payload ?? new Uint8Array();
  const header = new Uint8Array({ TCP: 20, UDP: 8, SCTP: 12, ICMP: 8 }[packet.protocol]);
  if (packet.protocol === 'ICMP') {
    header.set([packet.type ?? 0, packet.code ?? 0]);
  } else {
    put16(header, 0, packet.sourcePort ?? 0);
    put16(header, 2, packet.destinationPort ?? 0);
  }
  if (packet.protocol === 'TCP') {
    put32(header, 4, packet.sequence ?? 1000);
    put32(header, 8, packet.acknowledge ?? 0);
    header[12] = 0x50;
    header[13] = packet.flags ?? tcpFlags.ACK;
  }
  if (packet.protocol === 'UDP') put16(header, 4, header.length + payload.length);
  if (packet.protocol === 'SCTP') return withCrc(concat(header, payload));
  const length = header.length + payload.length;
  const before =
    packet.protocol === 'ICMP' && !isV6(packet.source)
      ? []
      : [pseudo(packet.source, packet.destination, { protocol: protocolNumber(packet), length })];
  const at = { TCP: 16, UDP: 6, ICMP: 2 }[packet.protocol];
  if (packet.hasNoChecksum !== true) put16(header, at, checksum(...before, header, payload) || 0xffff);
  return concat(header, payload);
}

/** Computes the CRC32c bit by bit (RFC 9260, appendix A). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffff_ffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (0x82f6_3b78 & -(crc & 1));
  }
  return ~crc >>> 0;
}

/** Writes the CRC32c into an SCTP packet. */
function withCrc(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  view.setUint32(8, 0);
  view.setUint32(8, crc32c(bytes), true);
  return bytes;
}

function l3(packet: Packet, inside: Uint8Array): Uint8Array {
  const options = packet.options ?? new Uint8Array();
  if (isV6(packet.source)) {
    const header = new Uint8Array(40);
    header[0] = 0x60;
    put16(header, 4, options.length + inside.length);
    header[6] = options.length > 0 ? 0 : protocolNumber(packet);
    header[7] = packet.hops ?? 64;
    header.set(addressBytes(packet.source), 8);
    header.set(addressBytes(packet.destination), 24);
    return concat(header, options, inside);
  }
  const header = concat(new Uint8Array(20), options);
  header[0] = 0x40 | (header.length / 4);
  put16(header, 2, header.length + inside.length);
  header[8] = packet.hops ?? 64;
  header[9] = protocolNumber(packet);
  header.set(addressBytes(packet.source), 12);
  header.set(addressBytes(packet.destination), 16);
  put16(header, 10, checksum(header));
  return concat(header, inside);
}

/** Builds the IP packet without an Ethernet header, as an ICMP error quotes it. */
export const ipPacket = (packet: Packet): Uint8Array => l3(packet, l4(packet));

/** Builds a frame. */
export function build(packet: Packet): Uint8Array {
  const ethernet = new Uint8Array(14);
  ethernet.set([2, 0, 0, 0, 0, packet.mac?.destination ?? 2, 2, 0, 0, 0, 0, packet.mac?.source ?? 1]);
  put16(ethernet, 12, isV6(packet.source) ? 0x86dd : 0x0800);
  return concat(ethernet, ipPacket(packet));
}

/** Cuts a frame into fragments with at most `size` bytes of the datagram each. `size` is a multiple of eight. */
export function fragments(frame: Uint8Array, size: number, id: number): Uint8Array[] {
  const six = frame[12] === 0x86;
  const headers = six ? 54 : 34;
  const inside = frame.subarray(headers);
  const cut: Uint8Array[] = [];
  for (let at = 0; at < inside.length; at += size) {
    const part = inside.subarray(at, at + size);
    const hasMore = at + size < inside.length;
    const head = frame.slice(0, headers);
    if (six) {
      const extension = new Uint8Array(8);
      extension[0] = head[20] ?? 0;
      put16(extension, 2, at | Number(hasMore));
      put32(extension, 4, id);
      head[20] = 44;
      put16(head, 18, 8 + part.length);
      cut.push(concat(head, extension, part));
    } else {
      put16(head, 16, 20 + part.length);
      put16(head, 18, id);
      put16(head, 20, (at / 8) | (hasMore ? 0x2000 : 0));
      put16(head, 24, 0);
      put16(head, 24, checksum(head.subarray(14, 34)));
      cut.push(concat(head, part));
    }
  }
  return cut;
}

/** Reads an IP packet. Throws on a wrong checksum. With `isQuoted`, the L4 part may be truncated, and the L4 checksum is not verified. */
export function readIp(bytes: Uint8Array, isQuoted = false): Packet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const six = (bytes[0] ?? 0) >> 4 === 6;
  const source = addressText(six ? bytes.slice(8, 24) : bytes.slice(12, 16));
  const destination = addressText(six ? bytes.slice(24, 40) : bytes.slice(16, 20));
  let at = six ? 40 : ((bytes[0] ?? 0) & 15) * 4;
  let number = six ? (bytes[6] ?? 0) : (bytes[9] ?? 0);
  if (!six && checksum(bytes.subarray(0, at)) !== 0) throw new Error('wrong IPv4 checksum');
  while (six && [0, 43, 44, 60].includes(number)) {
    number = bytes[at] ?? 0;
    at += ((bytes[at + 1] ?? 0) + 1) * 8;
  }
  const end = isQuoted ? bytes.length : six ? 40 + view.getUint16(4) : view.getUint16(2);
  const inside = bytes.subarray(at, end);
  const protocol = number === 6 ? 'TCP' : number === 17 ? 'UDP' : number === 132 ? 'SCTP' : 'ICMP';
  const hasNoChecksum = protocol === 'UDP' && !six && view.getUint16(at + 6) === 0;
  const before = protocol === 'ICMP' && !six ? [] : [pseudo(source, destination, { protocol: number, length: inside.length })];
  if (!isQuoted && protocol === 'SCTP' && !withCrc(inside.slice()).every((byte, i) => byte === inside[i])) throw new Error('wrong CRC32c');
  if (!isQuoted && !hasNoChecksum && protocol !== 'SCTP' && checksum(...before, inside) !== 0)
    throw new Error(`wrong ${protocol} checksum`);
  const base = { protocol, source, destination } as const;
  if (protocol === 'ICMP')
    return { ...base, type: inside[0] ?? 0, code: inside[1] ?? 0, rest: view.getUint32(at + 4), payload: inside.slice(8) };
  const ports = { sourcePort: view.getUint16(at), destinationPort: view.getUint16(at + 2) };
  if (protocol === 'UDP') return { ...base, ...ports, ...(hasNoChecksum ? { hasNoChecksum } : {}), payload: inside.slice(8) };
  if (protocol === 'SCTP') return { ...base, ...ports, payload: inside.slice(12) };
  if (isQuoted) return { ...base, ...ports };
  const tcp = { sequence: view.getUint32(at + 4), acknowledge: view.getUint32(at + 8), flags: inside[13] ?? 0 };
  return { ...base, ...ports, ...tcp, payload: inside.slice(((inside[12] ?? 0) >> 4) * 4) };
}

/** Reads a frame. See readIp(). */
export const read = (frame: Uint8Array): Packet => readIp(frame.subarray(14));
