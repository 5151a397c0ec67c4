// SPDX-License-Identifier: Apache-2.0
// One end of a tunnel: a process that makes a TUN device and carries its packets in UDP datagrams. Argument: TunOptions as JSON. The device
// exists as long as the process runs. Started by peers.ts.
import { createSocket } from 'node:dgram';
import { openSync, read, writeSync } from 'node:fs';
import koffi from 'koffi';

export interface TunOptions {
  readonly device: string;
  /** Addresses of the two ends of the tunnel. */
  readonly local: string;
  readonly remote: string;
  /** UDP port of both ends. */
  readonly port: number;
  /** Type of the device (ARPHRD_*). Default: a device without a link-layer header. */
  readonly type?: number;
}

const TUNSETIFF = 0x400454ca;
const TUNSETLINK = 0x400454cd;
/** IFF_TUN and IFF_NO_PI: packets without any header before the IP header. */
const FLAGS = 0x1001;
/** sizeof(struct ifreq), and the offset of ifr_flags behind the name. */
const IFREQ = { size: 40, flags: 16 };
const PACKET_BYTES = 65_536;

const libc = koffi.load('libc.so.6');
const ioctl: (fd: number, request: number, argument: Buffer) => number = libc.func(
  'int ioctl(int fd, unsigned long request, void *argument)',
);
const setNumber: (fd: number, request: number, argument: number) => number = libc.func(
  'int ioctl(int fd, unsigned long request, unsigned long argument)',
);

const { device, local, remote, port, type } = JSON.parse(process.argv[2] ?? '') as TunOptions;
const tun = openSync('/dev/net/tun', 'r+');
const request = Buffer.alloc(IFREQ.size);
request.write(device);
request.writeUInt16LE(FLAGS, IFREQ.flags);
if (ioctl(tun, TUNSETIFF, request) !== 0) throw new Error(`TUNSETIFF ${device} failed`);
if (type !== undefined && setNumber(tun, TUNSETLINK, type) !== 0) throw new Error(`TUNSETLINK ${device} ${type} failed`);

const udp = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 });
udp.on('message', (packet) => {
  try {
    writeSync(tun, packet);
  } catch {
    // The device is not up yet; a network may lose packets.
  }
});
await new Promise<void>((resolve) => udp.bind(port, local, resolve));

const buffer = Buffer.alloc(PACKET_BYTES);
function next(): void {
  read(tun, buffer, 0, PACKET_BYTES, null, (error, length) => {
    if (error !== null) throw error;
    udp.send(Buffer.from(buffer.subarray(0, length)), port, remote);
    next();
  });
}
next();
process.stdout.write('ready\n');
