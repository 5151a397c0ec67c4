// SPDX-License-Identifier: Apache-2.0
// Three tables that are read at start and after netlink events: the node's own addresses, the devices that have an address of a subnet, and
// the source addresses for masquerading. Loopback and link-local addresses are left out, because no Service is reachable on them. Writes
// only these three tables.
import type { StatusPart } from '../../base/status-part.ts';
import { readSysctl } from '../../kernel/host.ts';
import { addressLabels, AddressMonitor, addresses, type InterfaceAddress, links } from '../../kernel/rtnetlink.ts';
import { addressText } from '../../model/address.ts';
import type { DeviceSubnet } from '../../model/device.ts';
import type { LocalAddress } from '../../model/host.ts';
import type { MasqueradeSource } from '../../model/masquerade.ts';
import type { Table } from '../../table/table.ts';
import { Follower, type FollowerOptions } from './follower.ts';
import { masqueradeSources } from './masquerade-sources.ts';

/** 127.0.0.0/8, ::1, 169.254.0.0/16, fe80::/10. */
const isUnreachable = (text: string): boolean => /^(127\.|169\.254\.|::1$|fe[89ab])/.test(text);

/** Ifindexes of the devices that have an address of a subnet, which is longer than a host address. The order is that of the addresses. */
export const subnetDevices = (found: readonly InterfaceAddress[]): Set<number> =>
  new Set(
    found
      .filter(({ address, prefixLength }) => prefixLength < 8 * address.length && !isUnreachable(addressText(address)))
      .map(({ ifindex }) => ifindex),
  );

/** Values of use_tempaddr from this one on mean that temporary addresses are preferred. */
const PREFER_TEMPORARY = 2;

/** The devices with global IPv6 addresses on which the kernel prefers temporary addresses. */
function prefersTemporary(six: readonly InterfaceAddress[]): Set<number> {
  const devices = new Set(six.flatMap(({ address, ifindex }) => (isUnreachable(addressText(address)) ? [] : [ifindex])));
  if (devices.size === 0) return devices;
  const prefers = (name: string): boolean => Number(readSysctl(`net/ipv6/conf/${name}/use_tempaddr`)) >= PREFER_TEMPORARY;
  return new Set(links().flatMap(({ ifindex, name }) => (devices.has(ifindex) && prefers(name) ? [ifindex] : [])));
}

export interface AddressTables {
  /** Keyed by address. */
  readonly addresses: Table<string, LocalAddress>;
  /** Keyed by ifindex. */
  readonly subnets: Table<number, DeviceSubnet>;
  /** Keyed by sourceKey(). */
  readonly sources: Table<string, MasqueradeSource>;
}

export class LocalAddresses implements StatusPart {
  readonly #tables: AddressTables;
  readonly #markInitialized: readonly (() => void)[];
  readonly #follower: Follower;

  constructor(tables: AddressTables, options: Pick<FollowerOptions, 'clock' | 'log'>) {
    this.#tables = tables;
    this.#markInitialized = Object.values(tables).map((table: Table<never, never>) => table.registerSource('netlink'));
    this.#follower = new Follower({
      ...{ what: 'addresses', clock: options.clock, log: options.log },
      open: (onLost) => {
        const monitor = new AddressMonitor();
        monitor.listen(() => this.#follower.resync(), onLost);
        return monitor;
      },
      list: () => this.#list(),
    });
  }

  /** Throws KernelError when the addresses cannot be listed. */
  start(): void {
    this.#follower.start();
    for (const mark of this.#markInitialized) mark();
  }

  /** The rows stay as they are. */
  stop(): void {
    this.#follower.stop();
  }

  problems(): string[] {
    return this.#follower.problems();
  }

  #list(): void {
    const present = new Map<string, LocalAddress>();
    const found = addresses();
    for (const { address, ifindex } of found) {
      const text = addressText(address);
      if (address.length > 0 && !isUnreachable(text)) present.set(text, { address: text, ifindex });
    }
    const { addresses: table, subnets, sources } = this.#tables;
    for (const [key] of [...table.all()]) if (!present.has(key)) table.delete(key);
    for (const [key, row] of present) if (table.get(key)?.ifindex !== row.ifindex) table.upsert(key, row);
    const devices = subnetDevices(found);
    for (const [ifindex] of [...subnets.all()]) if (!devices.has(ifindex)) subnets.delete(ifindex);
    for (const ifindex of devices) if (subnets.get(ifindex) === undefined) subnets.upsert(ifindex, { ifindex });
    const six = found.filter(({ address }) => address.length === 16);
    const labels = six.length === 0 ? [] : addressLabels();
    const wanted = masqueradeSources({ addresses: found, labels, temporary: prefersTemporary(six) });
    for (const [key, row] of wanted) if (sources.get(key)?.address !== row.address) sources.upsert(key, row);
    for (const [key] of [...sources.all()]) if (!wanted.has(key)) sources.delete(key);
  }
}
