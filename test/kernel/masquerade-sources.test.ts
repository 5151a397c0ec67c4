// SPDX-License-Identifier: Apache-2.0
// Compares the source addresses that the daemon computes for masqueraded IPv6 packets with those that the kernel selects (RFC 6724, 5), for
// random addresses, devices and destinations. The kernel shows its choice in the answer to `ip route get`. The test uses a private network
// namespace.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../daemon/base/clock.ts';
import { addressBytes, addressText } from '../../daemon/model/address.ts';
import type { DeviceSubnet } from '../../daemon/model/device.ts';
import type { LocalAddress } from '../../daemon/model/host.ts';
import type { MasqueradeSource } from '../../daemon/model/masquerade.ts';
import { LocalAddresses } from '../../daemon/source/netlink/local-addresses.ts';
import { Table } from '../../daemon/table/table.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { newNetns } from '../support/kernel.ts';
import { ip } from './fixture.ts';

const ROUNDS = 60;
const DESTINATIONS = 40;
const devices = ['d0', 'd1', 'd2', 'd3', 'd4.7'];
/** Prefixes of addresses and destinations: global, unique local, 6to4, Teredo, ORCHID, site-local, and one with a label of its own. */
const global = ['2001:db8:1:', '2001:db8:2:', '3000:'];
const others = ['fd00:10:', 'fd00:244:', 'fdff:', '2002:a00:', '2001:0:', '2001:10:', 'fec0:', '2001:db8:8:'];
const random = seededRandom(6724);
const pick = <T>(...values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
const hex = (): string => Math.floor(random() * 65_536).toString(16);

function randomAddress(): string {
  const text = `${pick(...global, ...others)}${pick('', '', `${hex()}:`)}:${pick('', '1', '2', `${hex()}:${hex()}`)}`;
  return addressText(addressBytes(text));
}

/** An address with a random prefix length, which may be deprecated, or have a temporary address beside it. */
function randomAssignment(device: string): string {
  const attributes = pick('', '', '', 'preferred_lft 0', 'mngtmpaddr valid_lft 90000 preferred_lft 80000');
  const length = attributes.startsWith('mngtmpaddr') ? 64 : pick(64, 64, 48, 128, 20, 96);
  return `address add ${randomAddress()}/${length} dev ${device} nodad ${attributes}`;
}

/** Runs commands of `ip -6`. One that fails is skipped, because a random address may exist already. */
const batch = (...lines: readonly string[]): string[] =>
  spawnSync('ip', ['-o', '-6', '-force', '-batch', '-'], { input: lines.join('\n'), encoding: 'utf8' })
    .stdout.trim()
    .split('\n');

const bits = (address: string): string => [...addressBytes(address)].map((byte) => byte.toString(2).padStart(8, '0')).join('');

/** Looks up rows as the datapath does: the longest match of a device, otherwise that of 0. */
function lookUp(rows: readonly MasqueradeSource[]): (ifindex: number, destination: string) => string | undefined {
  const prefixes = rows.map(({ ifindex, cidr, address }) => {
    const [base = '', length = ''] = cidr.split('/');
    return { ifindex, prefix: bits(base).slice(0, Number(length)), address };
  });
  const longest = prefixes.toSorted((a, b) => b.prefix.length - a.prefix.length);
  return (ifindex, destination) => {
    const wanted = bits(destination);
    const find = (device: number): string | undefined =>
      longest.find((row) => row.ifindex === device && wanted.startsWith(row.prefix))?.address;
    return find(ifindex) ?? find(0);
  };
}

function computedRows(): MasqueradeSource[] {
  const tables = {
    addresses: new Table<string, LocalAddress>('addresses', setImmediate),
    subnets: new Table<number, DeviceSubnet>('subnets', setImmediate),
    sources: new Table<string, MasqueradeSource>('sources', setImmediate),
  };
  const log = { info: () => undefined, error: () => undefined };
  const local = new LocalAddresses(tables, { clock: systemClock, log: log as never });
  local.start();
  local.stop();
  return [...tables.sources.all()].map(([, row]) => row);
}

interface Shown {
  readonly ifindex: number;
  readonly ifname: string;
  readonly addr_info: readonly {
    readonly local: string;
    readonly scope: string;
    readonly temporary?: boolean;
    readonly deprecated?: boolean;
  }[];
}

const shownAddresses = (): Shown[] => JSON.parse(ip('-j', '-6', 'address', 'show')) as Shown[];
const ownAddresses = (shown: readonly Shown[]) =>
  shown.flatMap(({ addr_info }) => addr_info).filter(({ scope }) => /global|site/.test(scope));

beforeAll(() => {
  newNetns();
  ip('link', 'set', 'lo', 'up');
  for (const name of devices) {
    ip('link', 'add', name, 'type', 'veth', 'peer', 'name', `p${name}`);
    for (const end of [name, `p${name}`]) {
      // New addresses can be used at once.
      writeFileSync(`/proc/sys/net/ipv6/conf/${end}/accept_dad`, '0');
      ip('link', 'set', end, 'up');
    }
  }
  ip('addrlabel', 'add', 'prefix', '2001:db8:8::/48', 'label', '99');
});

test('the source address is the one that the kernel selects', () => {
  const seen = { sources: 0, temporary: 0, deprecated: 0 };
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const name of devices) writeFileSync(`/proc/sys/net/ipv6/conf/${name}/use_tempaddr`, pick('0', '1', '2', '2'));
    const used = [pick(...devices), ...devices.filter(() => random() < 0.4)];
    batch(
      ...Array.from({ length: 1 + Math.floor(random() * 9) }, () => randomAssignment(pick(...used))),
      ...devices.map((name, n) => `route add default dev ${name} metric ${100 + n}`),
    );
    const shown = shownAddresses();
    const own = ownAddresses(shown);
    const select = lookUp(computedRows());
    const destinations = Array.from({ length: DESTINATIONS }, randomAddress).filter((each) => own.every(({ local }) => local !== each));
    const asked = destinations.flatMap((destination) => devices.map((device) => ({ destination, device })));
    const answers = batch(...asked.map(({ destination, device }) => `route get ${destination} oif ${device}`));
    expect(answers).toHaveLength(asked.length);
    const kernel = asked.map((each, n) => ({ ...each, source: / src (\S+)/.exec(answers[n] ?? '')?.[1] }));
    const indexes = new Map(shown.map(({ ifname, ifindex }) => [ifname, ifindex]));
    const ours = asked.map((each) => ({ ...each, source: select(indexes.get(each.device) ?? 0, each.destination) }));
    expect(ours, JSON.stringify(shown)).toEqual(kernel);
    seen.sources += new Set(kernel.map(({ source }) => source)).size;
    seen.temporary += own.filter(({ temporary }) => temporary === true).length;
    seen.deprecated += own.filter(({ deprecated }) => deprecated === true).length;
    for (const name of devices) batch(`address flush dev ${name} scope global`, `address flush dev ${name} scope site`);
    batch('route flush default');
  }
  // The rounds had a choice to make.
  expect(seen.sources).toBeGreaterThan(2 * ROUNDS);
  expect(Math.min(seen.temporary, seen.deprecated)).toBeGreaterThan(ROUNDS / 2);
});
