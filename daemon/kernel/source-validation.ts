// SPDX-License-Identifier: Apache-2.0
// The setting net.ipv4.conf.DEVICE.rp_filter of every device of this network namespace, from rtnetlink. It must never change a setting.
// Called by source/netlink/.
import type { KernelError } from '../base/errors.ts';
import { attributes, NetlinkSocket } from './netlink.ts';

const RTM_GETNETCONF = 82;
/** RTNLGRP_IPV4_NETCONF is 24. */
const IPV4_NETCONF_GROUP = 1 << 23;
const AF_INET = 2;
const NETCONFA_IFINDEX = 1;
const NETCONFA_RP_FILTER = 3;
/** The ifindex of net.ipv4.conf.all. */
const ALL_DEVICES = -1;

const word = (bytes: Uint8Array | undefined): number | undefined =>
  bytes === undefined || bytes.length < 4 ? undefined : new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getInt32(0, true);

/**
 * The ifindexes of the devices on which the kernel validates sources strictly: the larger value of "all" and of the device is 1. Throws
 * KernelError.
 */
export function strictDevices(): Set<number> {
  const socket = new NetlinkSocket();
  try {
    // struct netconfmsg: family.
    const messages = socket.dump(RTM_GETNETCONF, Uint8Array.of(AF_INET, 0, 0, 0), 'network settings');
    const values = new Map<number, number>();
    for (const { body } of messages) {
      const found = attributes(body.subarray(4));
      values.set(word(found.get(NETCONFA_IFINDEX)) ?? 0, word(found.get(NETCONFA_RP_FILTER)) ?? 0);
    }
    const all = values.get(ALL_DEVICES) ?? 0;
    return new Set([...values].filter(([ifindex, value]) => ifindex > 0 && Math.max(all, value) === 1).map(([ifindex]) => ifindex));
  } finally {
    socket.close();
  }
}

/** Reports that a setting changed, or that a device appeared or disappeared. The caller then calls strictDevices() again. */
export class NetconfMonitor {
  readonly #socket = new NetlinkSocket(IPV4_NETCONF_GROUP);

  /** `onLost` as in LinkMonitor. */
  listen(onChange: () => void, onLost: (reason: KernelError) => void): void {
    this.#socket.listen(onChange, onLost);
  }

  close(): void {
    this.#socket.close();
  }
}
