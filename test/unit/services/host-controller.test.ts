// SPDX-License-Identifier: Apache-2.0
// The host row and the address sets, computed from Services, this node, its addresses and ServiceCIDRs: their content, and the
// writes after each change (test/README.md, 5, 6.4 and 9).
import { describe, expect, test } from 'vitest';
import { HostController } from '../../../daemon/services/controller/host-controller.ts';
import { type DesiredHost, type DesiredRange, hostKey } from '../../../daemon/model/frontend.ts';
import { hostCidr } from '../../../daemon/model/address.ts';
import type { ApiServerAddress } from '../../../daemon/model/api-server.ts';
import type { DesiredDevice } from '../../../daemon/model/device.ts';
import type { HostSettings, LocalAddress } from '../../../daemon/model/host.ts';
import { type MasqueradeSource, sourceKey } from '../../../daemon/model/masquerade.ts';
import type { Node } from '../../../daemon/model/node.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import type { Service } from '../../../daemon/model/service.ts';
import type { ServiceCIDR } from '../../../daemon/model/service-cidr.ts';
import { Table } from '../../../daemon/table/table.ts';
import { hostSettings, nodeRow, serviceRow, ordinary } from '../../support/builders.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';

function setup(settings: Partial<HostSettings> = {}, devices?: Table<number, DesiredDevice>) {
  const scheduler = new ManualScheduler();
  const services = new Table<string, Service>('services', scheduler.schedule);
  const nodes = new Table<string, Node>('nodes', scheduler.schedule);
  const serviceCIDRs = new Table<string, ServiceCIDR>('service-cidrs', scheduler.schedule);
  const localAddresses = new Table<string, LocalAddress>('local-addresses', scheduler.schedule);
  const host = new Table<string, DesiredHost>('host', scheduler.schedule);
  const ranges = new Table<string, DesiredRange>('address-sets', scheduler.schedule);
  const apiServers = new Table<string, ApiServerAddress>('api-servers', scheduler.schedule);
  const masqueradeSources = new Table<string, MasqueradeSource>('masquerade-sources', scheduler.schedule);
  const marks = [services, nodes, serviceCIDRs, localAddresses, masqueradeSources].map((table) => table.registerSource('test'));
  const inputs = { services, nodes, serviceCIDRs, localAddresses, apiServers, masqueradeSources };
  const controller = new HostController({ ...inputs, devices, host, ranges, nodeName: 'here', settings: hostSettings(settings) });
  const changes = [host.observe(), ranges.observe()];
  controller.start();
  const flush = (): string[] => {
    scheduler.flush();
    return changes
      .flatMap((observer): { key: string; row: unknown }[] => observer.take())
      .map(({ key, row }) => `${row === undefined ? '-' : '+'} ${key}`);
  };
  const listed = (): void => marks.forEach((mark) => mark());
  const members = (): string[] => [...ranges.all()].map(([key]) => key);
  return { ...inputs, host, controller, flush, listed, marks, members };
}

const put = (table: Table<string, Service>, fields: Partial<Service>): void =>
  table.upsert(objectKey(serviceRow(fields)), serviceRow(fields));
const here = nodeRow('here', { addresses: ['192.168.0.1', 'fd00:1::1'], podCIDRs: ['10.244.1.0/24'] });

test('nothing is written before the first list of every source is complete', () => {
  const { flush, marks, host } = setup();
  for (const mark of marks) {
    expect(flush()).toEqual([]);
    expect(host.initialized).toBe(false);
    mark();
  }
  expect(flush()).toEqual(['+ host']);
  expect(host.initialized).toBe(true);
});

test('address sets have the right members, and only differences are written', () => {
  const { services, nodes, serviceCIDRs, localAddresses, host, flush, listed, members } = setup({
    ...{ clusterCidr: ['10.244.0.0/16'], serviceCidr: ['10.96.0.0/16'] },
  });
  nodes.upsert('here', here);
  nodes.upsert('there', nodeRow('there', { addresses: ['192.168.0.2'] }));
  localAddresses.upsert('a', { address: '192.168.0.1', ifindex: 2 });
  localAddresses.upsert('b', { address: '10.244.1.1', ifindex: 3 });
  serviceCIDRs.upsert('kubernetes', { name: 'kubernetes', cidrs: ['10.96.0.0/16', 'fd00:96::/112'] });
  put(services, { clusterIPs: { IPv4: '10.97.0.10', IPv6: 'fd00:96::a' } });
  put(services, { name: 'portless', clusterIPs: { IPv4: '10.97.0.11' }, ports: [] });
  listed();
  flush();
  expect(members()).toEqual([
    ...['node 192.168.0.1/32', 'node 10.244.1.1/32', 'node fd00:1::1/128', 'pod 10.244.0.0/16'],
    ...['serviceCIDR 10.96.0.0/16', 'serviceCIDR fd00:96::/112', 'clusterIP 10.97.0.10/32', 'clusterIP fd00:96::a/128'],
  ]);
  expect(host.get(hostKey)).toEqual({
    nodeAddresses: { IPv4: '192.168.0.1', IPv6: 'fd00:1::1' },
    podDetection: { IPv4: 'cidr', IPv6: 'none' },
    masqueradeAll: false,
    snatPorts: [{ first: 1024, last: 29_999 }],
    hasTc: { pods: false, node: false },
    ...{ forwardMark: 0, removedSources: 0 },
    clusterRange: { IPv4: { first: '10.96.0.0', last: '10.97.0.10' }, IPv6: { first: 'fd00:96::', last: 'fd00:96::ffff' } },
  });
  put(services, { clusterIPs: { IPv4: '10.97.0.10', IPv6: 'fd00:96::a' }, affinitySeconds: 5 });
  expect(flush()).toEqual([]);
  put(services, { clusterIPs: { IPv4: '10.96.0.12' } });
  expect(flush()).toEqual(['+ host', '+ clusterIP 10.96.0.12/32', '- clusterIP 10.97.0.10/32', '- clusterIP fd00:96::a/128']);
  serviceCIDRs.delete('kubernetes');
  expect(flush()).toEqual(['+ host', '- serviceCIDR fd00:96::/112']);
});

test('the range of ClusterIPs is from the lowest to the highest one, and an address of two Services stays until both are deleted', () => {
  const { services, host, flush, listed } = setup();
  const range = (): unknown => host.get(hostKey)?.clusterRange;
  put(services, { name: 'low', clusterIPs: { IPv4: '10.96.0.1' } });
  put(services, { name: 'high', clusterIPs: { IPv4: '10.96.0.9' } });
  put(services, { name: 'rival', clusterIPs: { IPv4: '10.96.0.9', IPv6: 'fd00:96::1' } });
  listed();
  flush();
  expect(range()).toEqual({ IPv4: { first: '10.96.0.1', last: '10.96.0.9' }, IPv6: { first: 'fd00:96::1', last: 'fd00:96::1' } });
  services.delete('default/high');
  expect(flush()).toEqual([]);
  services.delete('default/rival');
  expect(flush()).toEqual(['+ host', '- clusterIP 10.96.0.9/32', '- clusterIP fd00:96::1/128']);
  expect(range()).toEqual({ IPv4: { first: '10.96.0.1', last: '10.96.0.1' } });
  put(services, { name: 'between', clusterIPs: { IPv4: '10.96.0.5' } });
  expect(flush()).toEqual(['+ host', '+ clusterIP 10.96.0.5/32']);
  put(services, { name: 'low', clusterIPs: { IPv4: '10.96.0.1' }, ports: [] });
  expect(flush()).toEqual(['+ host', '- clusterIP 10.96.0.1/32']);
  expect(range()).toEqual({ IPv4: { first: '10.96.0.5', last: '10.96.0.5' } });
});

describe('detectors', () => {
  const none = { IPv4: 'none', IPv6: 'none' };
  test.for<{ name: string; settings: Partial<HostSettings>; detection: unknown; pods: string[] }>([
    { name: 'ClusterCIDR without a CIDR', settings: {}, detection: none, pods: [] },
    {
      name: 'ClusterCIDR with CIDRs of both families',
      settings: { clusterCidr: ['10.244.0.0/16', 'fd00:2::/48'] },
      detection: { IPv4: 'cidr', IPv6: 'cidr' },
      pods: ['pod 10.244.0.0/16', 'pod fd00:2::/48'],
    },
    {
      name: 'NodeCIDR',
      settings: { clusterCidr: ['10.0.0.0/8'], detectLocalMode: 'NodeCIDR' },
      detection: { IPv4: 'cidr', IPv6: 'none' },
      pods: ['pod 10.244.1.0/24'],
    },
    {
      name: 'InterfaceNamePrefix',
      settings: { detectLocalMode: 'InterfaceNamePrefix' },
      detection: { IPv4: 'interface', IPv6: 'interface' },
      pods: [],
    },
    { name: 'no detector', settings: { clusterCidr: ['10.0.0.0/8'], detectLocalMode: 'none' }, detection: none, pods: [] },
  ])('9: the detector of local pods is as configured: $name', ({ settings, detection, pods }) => {
    const { nodes, host, flush, listed, members } = setup(settings);
    nodes.upsert('here', here);
    listed();
    flush();
    expect(host.get(hostKey)).toMatchObject({ podDetection: detection });
    expect(members().filter((key) => key.startsWith('pod '))).toEqual(pods);
  });
});

test('without a Node object the first global address of the device with the lowest index is primary', () => {
  const { localAddresses, host, flush, listed } = setup();
  const addresses = ['127.0.0.1', 'fe80::1', '172.17.0.1', '192.168.0.10', '192.168.0.9', 'fd00::5'];
  [1, 2, 3, 2, 2, 2].forEach((ifindex, i) => localAddresses.upsert(String(i), { address: addresses[i] ?? '', ifindex }));
  listed();
  flush();
  expect(host.get(hostKey)).toMatchObject({ nodeAddresses: { IPv4: '192.168.0.9', IPv6: 'fd00::5' } });
});

test('nothing is written after stop()', () => {
  const { controller, nodes, flush, listed } = setup();
  listed();
  flush();
  controller.stop();
  nodes.upsert('here', here);
  expect(flush()).toEqual([]);
});

describe('whether tc programs translate the UDP sockets of pods and of the node', () => {
  const hasTc = (settings: Partial<HostSettings>, devices?: Table<number, DesiredDevice>) => {
    const { host, flush, listed } = setup(settings, devices);
    listed();
    flush();
    return { flush, hasTc: () => host.get(hostKey)?.hasTc };
  };
  const auto = { podInterfaces: 'auto', uplinks: 'auto' } as const;

  test('with auto, the devices that are found decide, so without a pod interface the socket hooks translate the sockets of pods', () => {
    const scheduler = new ManualScheduler();
    const devices = new Table<number, DesiredDevice>('devices', scheduler.schedule);
    const markFound = devices.registerSource('test');
    const found = hasTc(auto, devices);
    const now = (): unknown => {
      scheduler.flush();
      found.flush();
      return found.hasTc();
    };
    expect(now()).toBeUndefined();
    markFound();
    expect(now()).toEqual({ pods: false, node: false });
    devices.upsert(2, { ifindex: 2, name: 'eth0', role: 'uplink', linkHeader: 'ethernet', appearance: 1, mapRow: ordinary(2) });
    expect(now()).toEqual({ pods: false, node: true });
    devices.upsert(3, { ifindex: 3, name: 'lxc1', role: 'pod', linkHeader: 'ethernet', appearance: 1, mapRow: ordinary(3) });
    expect(now()).toEqual({ pods: true, node: true });
    devices.delete(3);
    expect(now()).toEqual({ pods: false, node: true });
  });

  test('devices that the settings name count before they exist, and a dry run with auto assumes devices', () => {
    const devices = new Table<number, DesiredDevice>('devices', () => undefined);
    devices.registerSource('test')();
    expect(hasTc({ podInterfaces: ['lxc'], uplinks: [] }, devices).hasTc()).toEqual({ pods: true, node: false });
    expect(hasTc(auto).hasTc()).toEqual({ pods: true, node: true });
  });
});

const consequence =
  'and packets of pods to addresses in it that no Service has are dropped: correct --service-cidr or the ServiceCIDR object';

test.for<{ name: string; cidrs: string[]; settings?: Partial<HostSettings>; want: string[] }>([
  { name: 'all addresses', cidrs: ['0.0.0.0/0'], want: ['0.0.0.0/0 contains 192.168.0.1, an address of this node'] },
  { name: 'an IPv6 address of the node', cidrs: ['fd00:1::/64'], want: ['fd00:1::/64 contains fd00:1::1, an address of this node'] },
  { name: 'the pods of the node', cidrs: ['10.244.0.0/16'], want: ['10.244.0.0/16 overlaps the pod addresses 10.244.1.0/24'] },
  { name: 'a part of the pods of the node', cidrs: ['10.244.1.64/26'], want: ['10.244.1.64/26 overlaps the pod addresses 10.244.1.0/24'] },
  {
    name: 'the pods of the cluster',
    cidrs: ['fd00:244::/48'],
    settings: { clusterCidr: ['fd00:244::/32'] },
    want: ['fd00:244::/48 overlaps the pod addresses fd00:244::/32'],
  },
  {
    name: 'several ranges',
    cidrs: ['192.168.0.0/24', '10.96.0.0/16', 'fd00::/16'],
    want: ['192.168.0.0/24 contains', 'fd00::/16 contains'],
  },
  { name: 'other addresses', cidrs: ['10.96.0.0/16', 'fd00:96::/112', '192.168.1.0/24', '10.245.0.0/16'], want: [] },
])('a Service CIDR that contains addresses of the node or of pods is named: $name', ({ cidrs, settings = {}, want }) => {
  const { nodes, serviceCIDRs, localAddresses, controller, flush, listed } = setup(settings);
  nodes.upsert('here', here);
  localAddresses.upsert('a', { address: '192.168.0.1', ifindex: 2 });
  serviceCIDRs.upsert('kubernetes', { name: 'kubernetes', cidrs });
  listed();
  flush();
  const found = controller.overlaps();
  expect(found).toHaveLength(want.length);
  for (const [index, text] of want.entries()) {
    expect(found[index]).toContain(`the Service CIDR ${text}`);
    expect(found[index]).toContain(consequence);
  }
  serviceCIDRs.delete('kubernetes');
  flush();
  expect(controller.overlaps()).toEqual([]);
});

test('a Service CIDR that contains every address is named although no address is known', () => {
  const { serviceCIDRs, controller, flush, listed } = setup();
  serviceCIDRs.upsert('kubernetes', { name: 'kubernetes', cidrs: ['::/0'] });
  listed();
  flush();
  expect(controller.overlaps()).toEqual([`the Service CIDR ::/0 contains every address of its family, ${consequence}`]);
});

test('the host row counts the source addresses that were removed, and not those that were added', () => {
  const { masqueradeSources, host, flush, listed } = setup({ acceptForwarded: true });
  const add = (address: string): void => {
    const row = { ifindex: 2, cidr: hostCidr(address), address };
    masqueradeSources.upsert(sourceKey(row), row);
  };
  add('10.0.0.1');
  listed();
  flush();
  expect(host.get(hostKey)).toMatchObject({ forwardMark: 0x4000, removedSources: 0 });
  add('10.0.0.11');
  expect(flush()).toEqual([]);
  masqueradeSources.delete('2 10.0.0.1/32');
  expect(flush()).toEqual(['+ host']);
  expect(host.get(hostKey)).toMatchObject({ removedSources: 1 });
});
