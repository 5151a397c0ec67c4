// SPDX-License-Identifier: Apache-2.0
// The settings of the kernel that decide how packets are judged and routed by their source: rp_filter and routing rules, as tables that
// follow netlink events. The tests use a private network namespace.
import { execFileSync } from 'node:child_process';
import { beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../daemon/base/clock.ts';
import type { Family } from '../../daemon/model/address.ts';
import type { RoutingRules, StrictDevice } from '../../daemon/model/device.ts';
import { routingRules } from '../../daemon/source/netlink/routing-rules.ts';
import { sourceValidation } from '../../daemon/source/netlink/source-validation.ts';
import { Table } from '../../daemon/table/table.ts';
import { devices, enterNamespace, ip } from './fixture.ts';

const options = { clock: systemClock, log: { info: () => undefined, error: () => undefined } as never };

beforeAll(() => enterNamespace());

const setRpFilter = (name: string, value: number): void =>
  void execFileSync('sh', ['-c', `echo ${value} > /proc/sys/net/ipv4/conf/${name}/rp_filter`]);

/** Waits until a condition is met after netlink events. The time limit only ends a test in which no event arrives. */
async function until(is: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !is();) {
    if (Date.now() > end) throw new Error(`${what}: not within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('a device is strict if the larger value of rp_filter for all devices and for the device is 1', async () => {
  for (const name of ['all', 'default', ...Object.keys(devices)]) setRpFilter(name, 0);
  const table = new Table<number, StrictDevice>('strict devices', setImmediate);
  const source = sourceValidation(table, options);
  source.start();
  try {
    expect(table.get(devices.lxc1)).toBeUndefined();
    setRpFilter('lxc1', 1);
    await until(() => table.get(devices.lxc1) !== undefined, 'the device is strict');
    expect(table.get(devices.lxc2)).toBeUndefined();
    setRpFilter('all', 2);
    await until(() => table.size === 0, 'no device is strict');
    setRpFilter('all', 1);
    await until(() => table.get(devices.lxc2) !== undefined, 'all devices are strict');
    setRpFilter('lxc2', 2);
    await until(() => table.get(devices.lxc2) === undefined, 'the device is not strict');
    expect(table.get(devices.lxc1)).toBeDefined();
    ip('link', 'add', 'late', 'type', 'veth', 'peer', 'name', 'plate');
    const [link] = JSON.parse(ip('-j', 'link', 'show', 'dev', 'late')) as { ifindex: number }[];
    await until(() => table.get(link?.ifindex ?? 0) !== undefined, 'a new device has the value for all devices');
    ip('link', 'delete', 'late');
    await until(() => table.get(link?.ifindex ?? 0) === undefined, 'a removed device has no row');
  } finally {
    source.stop();
  }
});

test.for(['IPv4', 'IPv6'] as const)('rules that select packets are noticed: %s', async (family) => {
  const table = new Table<Family, RoutingRules>('routing rules', setImmediate);
  const source = routingRules(table, options);
  source.start();
  const rule = (action: string, ...words: readonly string[]): string => ip(family === 'IPv4' ? '-4' : '-6', 'rule', action, ...words);
  const address = family === 'IPv4' ? '10.244.1.1' : 'fd00:244:1::1';
  try {
    expect(table.size).toBe(0);
    rule('add', 'fwmark', '0x80', 'lookup', 'main');
    await until(() => table.get(family)?.hasSource === false, 'a rule that selects packets is noticed');
    rule('add', 'from', address, 'lookup', '2');
    await until(() => table.get(family)?.hasSource === true, 'the rule with a source is noticed');
    expect(table.size).toBe(1);
    rule('delete', 'from', address, 'lookup', '2');
    await until(() => table.get(family)?.hasSource === false, 'its removal is noticed');
    rule('delete', 'fwmark', '0x80', 'lookup', 'main');
    await until(() => table.size === 0, 'the removal of the last rule is noticed');
  } finally {
    source.stop();
  }
});
