// SPDX-License-Identifier: Apache-2.0
// The devices that must have tc programs, derived from the devices that exist.
import { beforeEach, expect, test } from 'vitest';
import type { DesiredDevice, NetworkDevice } from '../../../daemon/model/device.ts';
import { DeviceController } from '../../../daemon/services/controller/device-controller.ts';
import { Table } from '../../../daemon/table/table.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';

let scheduler: ManualScheduler;
let links: Table<number, NetworkDevice>;
let devices: Table<number, DesiredDevice>;
let controller: DeviceController;
let markListed: () => void;

beforeEach(() => {
  scheduler = new ManualScheduler();
  links = new Table('links', scheduler.schedule);
  devices = new Table('devices', scheduler.schedule);
  markListed = links.registerSource('test');
  controller = new DeviceController({ links, devices, podInterfaces: ['lxc'], uplinks: ['eth0'] });
  controller.start();
});

const link = (row: Partial<NetworkDevice>): NetworkDevice => ({
  ...{ ifindex: 7, name: 'lxc1', kind: 'veth', isEthernet: true, appearance: 1 },
  ...row,
});

function put(row: Partial<NetworkDevice>): void {
  links.upsert(link(row).ifindex, link(row));
  scheduler.flush();
}

test('nothing is derived before the devices have been listed', () => {
  put({});
  expect([devices.initialized, devices.size]).toEqual([false, 0]);
  markListed();
  scheduler.flush();
  expect([devices.initialized, devices.size]).toEqual([true, 1]);
});

test.for([
  { name: 'a veth with the prefix', row: {}, want: 'pod' },
  { name: 'a veth with another name', row: { name: 'veth1' }, want: undefined },
  { name: 'a device of another kind with the prefix', row: { kind: 'vxlan' }, want: undefined },
  { name: 'an uplink', row: { name: 'eth0', kind: '' }, want: 'uplink' },
  { name: 'an uplink that does not carry Ethernet frames', row: { name: 'eth0', isEthernet: false }, want: undefined },
])('the role of $name is $want', ({ row, want }) => {
  markListed();
  put(row);
  expect(devices.get(7)?.role).toBe(want);
});

test('a device that was deleted and created again with the same ifindex and name is written again', () => {
  markListed();
  put({});
  const before = devices.revision;
  put({});
  expect(devices.revision).toBe(before);
  links.delete(7);
  put({ appearance: 2 });
  expect(devices.revision).toBeGreaterThan(before);
  expect(devices.get(7)).toMatchObject({ name: 'lxc1', appearance: 2 });
});

test('an uplink that cannot have programs is a problem', () => {
  markListed();
  put({ name: 'eth0', isEthernet: false });
  expect(controller.problems()).toEqual([
    'uplink eth0 does not carry Ethernet frames, so programs cannot be attached to it: correct --uplinks',
  ]);
  expect(controller.missing()).toEqual([expect.stringContaining('prefix lxc')]);
  put({ name: 'eth0' });
  expect(controller.problems()).toEqual([]);
});

test('uplinks and prefixes that match no device are reported with the flag to correct, once the devices are listed', () => {
  const uplink: unknown = expect.stringMatching(/^uplink eth0 does not exist: correct --uplinks/);
  const prefix: unknown = expect.stringMatching(/^no veth device of this node has the prefix lxc: .* correct --pod-interfaces/);
  expect([controller.missing(), controller.summary()]).toEqual([[], 'not listed yet']);
  markListed();
  scheduler.flush();
  expect([controller.missing(), controller.summary()]).toEqual([[uplink, prefix], '0 uplinks, 0 pod interfaces']);
  // A device that has the prefix but is not a veth gets no programs, so the prefix is still reported.
  put({ kind: 'vxlan' });
  expect(controller.missing()).toEqual([uplink, prefix]);
  put({ ifindex: 8 });
  put({ ifindex: 9, name: 'eth0', kind: '' });
  expect([controller.missing(), controller.summary()]).toEqual([[], '1 uplink, 1 pod interface']);
  links.delete(8);
  scheduler.flush();
  expect(controller.missing()).toEqual([prefix]);
});
