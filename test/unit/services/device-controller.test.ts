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
])('$name: $want', ({ row, want }) => {
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

test('an uplink that does not exist, and one that cannot have programs, are problems', () => {
  markListed();
  scheduler.flush();
  expect(controller.problems()).toEqual(['uplink eth0 does not exist: programs are attached when it appears']);
  put({ name: 'eth0', isEthernet: false });
  expect(controller.problems()).toEqual(['uplink eth0 does not carry Ethernet frames: programs cannot be attached to it']);
  put({ name: 'eth0' });
  expect(controller.problems()).toEqual([]);
});
