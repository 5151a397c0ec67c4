// SPDX-License-Identifier: Apache-2.0
// Builds the Ethernet frame of a question: the first packet of a flow, with correct checksums. Pure. Used by explainer.ts.
import { addressBytes } from '../model/address.ts';
import { type Protocol, protocolNumbers } from '../model/service.ts';

const ETHERNET = 14;
const HOPS = 64;

export interface FrameEnds {
  readonly protocol: Protocol;
  /** Canonical addresses of one family. */
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** Internet checksum (RFC 1071) of whole 16-bit words. */
function checksum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** TCP: a SYN. UDP: an empty datagram. SCTP: the header of an INIT chunk; the CRC is left out, because programs do not verify it. */
function transport({ protocol, sourcePort, destinationPort }: FrameEnds): Uint8Array {
  const bytes = new Uint8Array({ TCP: 20, UDP: 8, SCTP: 16 }[protocol]);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  if (protocol === 'TCP') view.setUint16(12, 0x5002);
  if (protocol === 'UDP') view.setUint16(4, bytes.length);
  if (protocol === 'SCTP') bytes.set([1, 0, 0, 4], 12);
  return bytes;
}

function withChecksum(l4: Uint8Array, ends: FrameEnds): Uint8Array {
  if (ends.protocol === 'SCTP') return l4;
  const pseudo = new Uint8Array(8);
  new DataView(pseudo.buffer).setUint32(0, l4.length);
  pseudo[7] = protocolNumbers[ends.protocol];
  const sum = checksum(addressBytes(ends.source), addressBytes(ends.destination), pseudo, l4);
  new DataView(l4.buffer).setUint16(ends.protocol === 'TCP' ? 16 : 6, sum);
  return l4;
}

function ipHeader(ends: FrameEnds, length: number): Uint8Array {
  const [source, destination] = [addressBytes(ends.source), addressBytes(ends.destination)];
  if (source.length === 16) {
    const header = new Uint8Array(40);
    const view = new DataView(header.buffer);
    header[0] = 0x60;
    view.setUint16(4, length);
    header.set([protocolNumbers[ends.protocol], HOPS], 6);
    header.set(source, 8);
    header.set(destination, 24);
    return header;
  }
  const header = new Uint8Array(20);
  const view = new DataView(header.buffer);
  header[0] = 0x45;
  view.setUint16(2, header.length + length);
  header.set([HOPS, protocolNumbers[ends.protocol]], 8);
  header.set(source, 12);
  header.set(destination, 16);
  view.setUint16(10, checksum(header));
  return header;
}

export function frameOf(ends: FrameEnds): Uint8Array {
  const l4 = withChecksum(transport(ends), ends);
  const ip = ipHeader(ends, l4.length);
  const frame = new Uint8Array(ETHERNET + ip.length + l4.length);
  frame.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
  frame.set(ip.length === 40 ? [0x86, 0xdd] : [8, 0], 12);
  frame.set(ip, ETHERNET);
  frame.set(l4, ETHERNET + ip.length);
  return frame;
}
