// SPDX-License-Identifier: Apache-2.0
// The table of devices that must have tc programs, derived from the devices, routes and addresses of a node: the order of its changes, and
// what is reported. device-roles.test.ts tests the roles.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Family } from '../../../daemon/model/address.ts';
import type {
  DesiredDevice,
  DeviceRoutes,
  DeviceSettings,
  DeviceSubnet,
  NetworkDevice,
  RoutingRules,
  StrictDevice,
} from '../../../daemon/model/device.ts';
import { DeviceController } from '../../../daemon/services/controller/device-controller.ts';
import { Table } from '../../../daemon/table/table.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';

let scheduler: ManualScheduler;
let links: Table<number, NetworkDevice>;
let routes: Table<number, DeviceRoutes>;
let subnets: Table<number, DeviceSubnet>;
let devices: Table<number, DesiredDevice>;
let controller: DeviceController;
let marks: (() => void)[];
let strictDevices: Table<number, StrictDevice>;
let rules: Table<Family, RoutingRules>;

const markListed = (): void => {
  for (const mark of marks) mark();
  scheduler.flush();
};

function begin(settings: DeviceSettings): void {
  scheduler = new ManualScheduler();
  links = new Table('links', scheduler.schedule);
  routes = new Table('routes', scheduler.schedule);
  subnets = new Table('subnets', scheduler.schedule);
  devices = new Table('devices', scheduler.schedule);
  strictDevices = new Table('strict devices', scheduler.schedule);
  rules = new Table('routing rules', scheduler.schedule);
  marks = [links, routes, subnets, strictDevices, rules].map((table: Pick<Table<unknown, unknown>, 'registerSource'>) =>
    table.registerSource('test'),
  );
  controller = new DeviceController({ links, routes, subnets, strictDevices, rules, devices, settings });
  controller.start();
}

const link = (row: Partial<NetworkDevice>): NetworkDevice => ({
  ...{
    ifindex: 7,
    name: 'lxc1',
    kind: 'veth',
    linkHeader: 'ethernet',
    isLoopback: false,
    master: 0,
    hasPeerElsewhere: true,
    appearance: 1,
  },
  address: '',
  ...row,
});

function put(row: Partial<NetworkDevice>): void {
  links.upsert(link(row).ifindex, link(row));
  scheduler.flush();
}

const eth0 = { ifindex: 2, name: 'eth0', kind: '', hasPeerElsewhere: false };
const defaultRoute = (ifindex: number): DeviceRoutes => ({ ifindex, hasGateway: true, hasDefault: true, isMultipath: false });

describe('devices that the settings name', () => {
  beforeEach(() => begin({ podInterfaces: ['lxc'], uplinks: ['eth0'] }));

  test('nothing is derived before devices, routes and addresses have been listed', () => {
    put({});
    for (const mark of marks) {
      expect([devices.initialized, devices.size, controller.summary()]).toEqual([false, 0, 'not listed yet']);
      mark();
      scheduler.flush();
    }
    expect([devices.initialized, devices.size]).toEqual([true, 1]);
  });

  test.for([
    { name: 'a veth with the prefix', row: {}, want: 'pod' },
    { name: 'a netkit device with the prefix', row: { kind: 'netkit' }, want: 'pod' },
    { name: 'a veth with another name', row: { name: 'veth1' }, want: undefined },
    { name: 'a device of another kind with the prefix', row: { kind: 'vxlan' }, want: undefined },
    { name: 'an uplink', row: eth0, want: 'uplink' },
    { name: 'an uplink without a link-layer header', row: { ...eth0, linkHeader: 'none' as const }, want: 'uplink' },
    { name: 'an uplink with another link-layer header than Ethernet', row: { ...eth0, linkHeader: 'other' as const }, want: undefined },
  ])('the role of $name is $want', ({ row, want }) => {
    markListed();
    put({ ...row, ifindex: 7 });
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
    put({ ...eth0, linkHeader: 'other' });
    expect(controller.problems()).toEqual([
      'uplink eth0 has no programs, because its frames have another link-layer header than Ethernet: correct --uplinks',
    ]);
    expect(controller.missing()).toEqual([expect.stringContaining('prefix lxc')]);
    put(eth0);
    expect(controller.problems()).toEqual([]);
  });

  test('an uplink that is a bridge of pod interfaces is a problem', () => {
    markListed();
    put({ ...eth0, kind: 'bridge' });
    expect(controller.problems()).toEqual([]);
    put({ master: eth0.ifindex });
    expect(controller.problems()).toEqual([expect.stringMatching(/^uplink eth0 is a bridge whose ports have programs too/)]);
    expect([...devices.all()].map(([, { role }]) => role)).toEqual(['uplink', 'pod']);
  });

  test('uplinks and prefixes that match no device are reported with the flag to correct, once the devices are listed', () => {
    const uplink: unknown = expect.stringMatching(/^uplink eth0 does not exist: correct --uplinks/);
    const prefix: unknown = expect.stringMatching(/^no veth or netkit device of this node has the prefix lxc: .* correct --pod-interfaces/);
    expect([controller.missing(), controller.summary()]).toEqual([[], 'not listed yet']);
    markListed();
    expect([controller.missing(), controller.summary()]).toEqual([[uplink, prefix], '0 uplinks, 0 pod interfaces']);
    // A device that has the prefix but is not a veth gets no programs, so the prefix is still reported.
    put({ kind: 'vxlan' });
    expect(controller.missing()).toEqual([uplink, prefix]);
    put({ ifindex: 8 });
    put({ ...eth0, ifindex: 9 });
    expect([controller.missing(), controller.summary()]).toEqual([[], '1 uplink, 1 pod interface']);
    links.delete(8);
    scheduler.flush();
    expect(controller.missing()).toEqual([prefix]);
  });
});

describe('devices that are found', () => {
  beforeEach(() => {
    begin({ podInterfaces: 'auto', uplinks: 'auto' });
    markListed();
  });

  const rows = (): string[] => [...devices.all()].map(([, { name, role }]) => `${name} ${role}`).toSorted();

  test('a device is judged again after a change of its routes, of its addresses and of its link', () => {
    put({ ...eth0, kind: 'veth', hasPeerElsewhere: true });
    expect(rows()).toEqual(['eth0 pod']);
    routes.upsert(2, defaultRoute(2));
    scheduler.flush();
    expect(rows()).toEqual(['eth0 uplink']);
    routes.delete(2);
    scheduler.flush();
    expect(rows()).toEqual(['eth0 pod']);
    subnets.upsert(2, { ifindex: 2 });
    scheduler.flush();
    expect(rows()).toEqual(['eth0 uplink']);
    put({ ...eth0, kind: 'veth', hasPeerElsewhere: true, master: 99 });
    put({ ifindex: 99, name: 'bond0', kind: 'bond', hasPeerElsewhere: false });
    expect(rows()).toEqual([]);
    expect(controller.judge(2)).toMatchObject({ role: 'none', reason: 'port of bond0' });
  });

  test('a bridge loses its programs before its first pod port gets them, so that no packet meets both', () => {
    put({ ifindex: 3, name: 'br0', kind: 'bridge', hasPeerElsewhere: false });
    routes.upsert(3, { ifindex: 3, hasGateway: false, hasDefault: false, isMultipath: false });
    put({ ifindex: 4, name: 'vnet0', kind: 'tun', hasPeerElsewhere: false, master: 3 });
    expect(rows()).toEqual(['br0 uplink']);
    const changes = devices.observe();
    changes.take();
    put({ master: 3 });
    expect(changes.take().map(({ key, row }) => `${key} ${row?.role ?? 'none'}`)).toEqual(['3 none', '4 uplink', '7 pod']);
  });

  test('a node without an uplink is reported until a route leads out of a device', () => {
    put(eth0);
    expect(controller.missing()).toEqual([expect.stringMatching(/^no uplink was found/)]);
    routes.upsert(2, defaultRoute(2));
    scheduler.flush();
    expect([controller.missing(), controller.problems(), controller.summary()]).toEqual([[], [], '1 uplink, 0 pod interfaces']);
  });

  test('all devices are reported with their roles in the order of their ifindex', () => {
    put({});
    put(eth0);
    expect(controller.judged().map(({ name, role }) => `${name} ${role}`)).toEqual(['eth0 none', 'lxc1 pod']);
    links.delete(2);
    scheduler.flush();
    expect(controller.judge(2)).toBeUndefined();
  });
});

describe('what the programs must know about a device', () => {
  beforeEach(() => {
    begin({ podInterfaces: 'auto', uplinks: 'auto' });
    put(eth0);
    routes.upsert(2, defaultRoute(2));
    markListed();
  });

  const mapRow = (ifindex: number): unknown => devices.get(ifindex)?.mapRow;

  test('a port of a bridge is found in routes as its bridge, and has the address of the bridge', () => {
    put({ ifindex: 3, name: 'cni0', kind: 'bridge', hasPeerElsewhere: false, address: '02:00:00:00:00:03' });
    put({ ifindex: 7, master: 3, address: '02:00:00:00:00:07' });
    expect(mapRow(7)).toEqual({ routeDevice: 3, bridgeAddress: '02:00:00:00:00:03', isStrict: false, sourceRules: [] });
    put({ ifindex: 3, name: 'cni0', kind: 'bridge', hasPeerElsewhere: false, address: '02:00:00:00:00:04' });
    expect(mapRow(7)).toMatchObject({ bridgeAddress: '02:00:00:00:00:04' });
    put({ ifindex: 7, address: '02:00:00:00:00:07' });
    expect(mapRow(7)).toEqual({ routeDevice: 7, bridgeAddress: '', isStrict: false, sourceRules: [] });
  });

  test('source validation is strict if rp_filter of the device is 1, and of the bridge for a port', () => {
    strictDevices.upsert(2, { ifindex: 2 });
    put({ ifindex: 3, name: 'cni0', kind: 'bridge', hasPeerElsewhere: false });
    put({ ifindex: 7, master: 3 });
    strictDevices.upsert(7, { ifindex: 7 });
    scheduler.flush();
    expect([mapRow(2), mapRow(7)]).toMatchObject([{ isStrict: true }, { isStrict: false }]);
    strictDevices.upsert(3, { ifindex: 3 });
    strictDevices.delete(2);
    scheduler.flush();
    expect([mapRow(2), mapRow(7)]).toMatchObject([{ isStrict: false }, { isStrict: true }]);
  });

  test('a device of a multipath route is not strict, since a packet may come in by another next hop', () => {
    strictDevices.upsert(2, { ifindex: 2 });
    routes.upsert(2, { ...defaultRoute(2), isMultipath: true });
    scheduler.flush();
    expect(mapRow(2)).toMatchObject({ isStrict: false });
  });

  test('a device is not strict if rules of policy routing exist, or if the settings name all devices so that no route is read', () => {
    strictDevices.upsert(2, { ifindex: 2 });
    scheduler.flush();
    expect(mapRow(2)).toMatchObject({ isStrict: true });
    rules.upsert('IPv4', { family: 'IPv4', hasSource: false });
    scheduler.flush();
    expect(mapRow(2)).toMatchObject({ isStrict: false, sourceRules: [] });
    begin({ podInterfaces: ['lxc'], uplinks: ['eth0'] });
    put(eth0);
    strictDevices.upsert(2, { ifindex: 2 });
    markListed();
    expect(mapRow(2)).toMatchObject({ isStrict: false });
  });

  test('an uplink has the families for which routes depend on the source', () => {
    put({ ifindex: 7 });
    rules.upsert('IPv6', { family: 'IPv6', hasSource: true });
    scheduler.flush();
    expect([mapRow(2), mapRow(7)]).toMatchObject([{ sourceRules: ['IPv6'] }, { sourceRules: [] }]);
    rules.upsert('IPv4', { family: 'IPv4', hasSource: true });
    rules.delete('IPv6');
    scheduler.flush();
    expect(mapRow(2)).toMatchObject({ sourceRules: ['IPv4'] });
  });
});
