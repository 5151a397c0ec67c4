// SPDX-License-Identifier: Apache-2.0
// The source addresses of masqueraded packets, by the device that the packets leave by. Pure.

export interface MasqueradeSource {
  /** The device; 0 for devices without an address. */
  readonly ifindex: number;
  /** Canonical CIDR of the next hop (IPv4) or the backend (IPv6). A length of 0 stands for all that are in no other CIDR of the device. */
  readonly cidr: string;
  /** Canonical. */
  readonly address: string;
}

/** Identifies a row: there is one source address for each device and CIDR. */
export const sourceKey = ({ ifindex, cidr }: Pick<MasqueradeSource, 'ifindex' | 'cidr'>): string => `${ifindex} ${cidr}`;
