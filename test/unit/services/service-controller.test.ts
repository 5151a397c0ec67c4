// SPDX-License-Identifier: Apache-2.0
// The desired table, computed from Services, slices and this node. Only changed Services are recomputed, and only differences are
// written. The order of events does not matter. A contested VIP has the right owner.
import { describe, expect, test } from 'vitest';
import { ServiceController } from '../../../daemon/services/controller/service-controller.ts';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import type { ApiServerAddress } from '../../../daemon/model/api-server.ts';
import type { HostSettings, LocalAddress } from '../../../daemon/model/host.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../../daemon/model/node.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { type Change, Table } from '../../../daemon/table/table.ts';
import { backendTexts, endpointRow, hostSettings, nodeRow, portRow, serviceRow, sliceRow } from '../../support/builders.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';

function setup(settings: Partial<HostSettings> = {}) {
  const scheduler = new ManualScheduler();
  const services = new Table<string, Service>('services', scheduler.schedule);
  const slices = new Table<string, EndpointSlice>('slices', scheduler.schedule);
  const nodes = new Table<string, Node>('nodes', scheduler.schedule);
  const localAddresses = new Table<string, LocalAddress>('local-addresses', scheduler.schedule);
  const desired = new Table<string, DesiredPort>('desired', scheduler.schedule);
  const apiServers = new Table<string, ApiServerAddress>('api-servers', scheduler.schedule);
  const marks = [services, slices, nodes, localAddresses].map((table) => table.registerSource('test'));
  const own = { nodes, localAddresses, nodeName: 'here', settings: hostSettings(settings) };
  const controller = new ServiceController({ services, slices, desired, apiServers, ...own });
  const changes = desired.observe();
  controller.start();
  const putService = (fields: Partial<Service> = {}): void => services.upsert(objectKey(serviceRow(fields)), serviceRow(fields));
  const putSlice = (fields: Partial<EndpointSlice> = {}): void => slices.upsert(objectKey(sliceRow(fields)), sliceRow(fields));
  const flush = (): Change<string, DesiredPort>[] => {
    scheduler.flush();
    return changes.take();
  };
  const listed = (): void => marks.forEach((mark) => mark());
  return { services, slices, nodes, localAddresses, apiServers, desired, controller, putService, putSlice, flush, listed, marks };
}

const web = 'default/web:/TCP/IPv4';

describe('before the first list of every source is complete', () => {
  test('before the first list of every source is complete, nothing is written and the output is not initialized', () => {
    const { putService, putSlice, flush, marks, desired } = setup();
    putService();
    putSlice();
    expect(flush()).toEqual([]);
    for (const mark of marks) {
      expect(desired.initialized).toBe(false);
      mark();
    }
    expect(flush().map((change) => change.key)).toEqual([web]);
    expect(desired.initialized).toBe(true);
  });

  test('the output is initialized even if the cluster is empty', () => {
    const { flush, listed, desired } = setup();
    listed();
    flush();
    expect(desired.initialized).toBe(true);
  });
});

describe('recompute', () => {
  const one = { endpoints: [endpointRow('10.0.0.1')] };
  test.for([
    { name: 'Service first', order: ['service', 'slice'] },
    { name: 'slice first', order: ['slice', 'service'] },
  ])('the row does not depend on the order of events: $name', ({ order }) => {
    const { putService, putSlice, flush, listed, desired } = setup();
    listed();
    for (const what of order) {
      if (what === 'service') putService();
      else putSlice(one);
      flush();
    }
    expect(backendTexts(desired.get(web)?.backends ?? [])).toEqual(['10.0.0.1:8080']);
  });

  test('a recomputation covers only the Service that changed, and writes only a row that differs', () => {
    const { putService, putSlice, flush, listed } = setup();
    for (const name of ['web', 'db']) {
      putService({ name, clusterIPs: { IPv4: name === 'web' ? '10.96.0.10' : '10.96.0.11' } });
      putSlice({ name, service: name, ...one });
    }
    listed();
    expect(flush()).toHaveLength(2);
    putSlice({ name: 'db', service: 'db', endpoints: [endpointRow('10.0.0.2')] });
    expect(flush().map((change) => change.key)).toEqual(['default/db:/TCP/IPv4']);
    putSlice({ name: 'db', service: 'db', endpoints: [endpointRow('10.0.0.2', { nodeName: 'there' })] });
    putService({ created: 5000 });
    expect(flush()).toEqual([]);
  });

  test('a change that is undone before the controller runs writes nothing', () => {
    const { putService, putSlice, slices, flush, listed } = setup();
    listed();
    putService();
    putSlice(one);
    flush();
    slices.delete('default/web-1');
    putSlice(one);
    expect(flush()).toEqual([]);
  });

  test('an endpoint that moves between slices is never missing', () => {
    const { putService, putSlice, flush, listed } = setup();
    listed();
    putService();
    putSlice({ name: 'a', ...one });
    putSlice({ name: 'b' });
    flush();
    putSlice({ name: 'a' });
    putSlice({ name: 'b', ...one });
    expect(flush()).toEqual([]);
  });

  test('a slice that moves to another Service is removed from the previous Service', () => {
    const { putService, putSlice, flush, listed, desired } = setup();
    listed();
    putService();
    putService({ name: 'db', clusterIPs: { IPv4: '10.96.0.11' } });
    putSlice(one);
    flush();
    putSlice({ ...one, service: 'db' });
    flush();
    expect(desired.get(web)?.backends).toEqual([]);
    expect(backendTexts(desired.get('default/db:/TCP/IPv4')?.backends ?? [])).toEqual(['10.0.0.1:8080']);
  });

  test('rows of removed ports and families are deleted', () => {
    const { putService, services, flush, listed, desired } = setup();
    listed();
    const ports = [portRow({ name: 'a' }), portRow({ name: 'b', port: 81 })];
    putService({ ports, clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00::a' } });
    flush();
    expect(desired.size).toBe(4);
    putService({ ports: ports.slice(1) });
    flush();
    expect([...desired.all()].map(([key]) => key)).toEqual(['default/web:b/TCP/IPv4']);
    services.delete('default/web');
    flush();
    expect(desired.size).toBe(0);
  });

  test('nothing is written after stop()', () => {
    const { putService, flush, listed, controller } = setup();
    listed();
    flush();
    controller.stop();
    putService();
    expect(flush()).toEqual([]);
  });
});

describe('a contested VIP', () => {
  const claimants = [
    { name: 'old', created: 1000 },
    { name: 'young', created: 2000 },
    { name: 'aged', created: 1000 },
    { name: 'unknown', created: 0 },
  ];
  // The order in which the Services own the VIP. Services of the same age are ordered by name.
  const line = ['aged', 'old', 'young', 'unknown'];
  const keyOf = (name: string): string => `default/${name}:/TCP/IPv4`;
  const ownerIn = (desired: Table<string, DesiredPort>): string[] =>
    [...desired.all()].filter(([, row]) => row.frontends.length > 0).map(([, row]) => row.name);

  test.for([
    { name: 'as given', order: [0, 1, 2, 3] },
    { name: 'reversed', order: [3, 2, 1, 0] },
    { name: 'mixed', order: [1, 3, 0, 2] },
  ])(
    'a contested VIP belongs to the oldest Service, then to the smallest name, and moves on when its owner is deleted ($name)',
    ({ order }) => {
      const { services, desired, controller, putService, flush, listed } = setup();
      listed();
      for (const i of order) {
        putService({ ...claimants[i] });
        flush();
      }
      for (const [i, owner] of line.entries()) {
        expect(ownerIn(desired)).toEqual([owner]);
        const contenders = line.slice(i + 1).map(keyOf);
        const conflict = { frontend: '10.96.0.10:80/TCP', owner: keyOf(owner), contenders, more: 0 };
        expect(controller.conflicts()).toEqual(contenders.length === 0 ? [] : [conflict]);
        services.delete(`default/${owner}`);
        flush();
      }
      expect(controller.conflicts()).toEqual([]);
    },
  );

  test('when a contested VIP moves, the row that gains it is written before the row that loses it', () => {
    const { desired, putService, flush, listed } = setup();
    listed();
    putService({ name: 'young', created: 2000 });
    flush();
    putService({ name: 'old' });
    expect(flush().map((change) => change.key)).toEqual([keyOf('old'), keyOf('young')]);
    expect(desired.get(keyOf('young'))?.frontends).toEqual([]);
    putService({ name: 'old', clusterIPs: { IPv4: '10.96.0.99' } });
    const changes = flush();
    expect(changes.map((change) => change.row?.frontends.map((frontend) => frontend.address))).toContainEqual(['10.96.0.10']);
    expect(ownerIn(desired).sort()).toEqual(['old', 'young']);
  });

  test('a contested VIP belongs to the port with the smaller key if two ports of one Service have the same number', () => {
    const { desired, putService, flush, listed, controller } = setup();
    listed();
    putService({ ports: [portRow({ name: 'b' }), portRow({ name: 'a' }), portRow({ name: 'b', protocol: 'UDP' })] });
    flush();
    expect(desired.get('default/web:b/TCP/IPv4')?.frontends).toEqual([]);
    expect(desired.get('default/web:a/TCP/IPv4')?.frontends).toHaveLength(1);
    expect(desired.get('default/web:b/UDP/IPv4')?.frontends).toHaveLength(1);
    expect(controller.conflicts()).toHaveLength(1);
  });
});

describe('many Services that claim one VIP', () => {
  const keyOf = (i: number): string => `default/${String(i).padStart(5, '0')}:/TCP/IPv4`;

  /** CPU time of the task in ms. */
  function timeOf(task: () => void): number {
    const began = process.cpuUsage();
    task();
    const { user, system } = process.cpuUsage(began);
    return (user + system) / 1000;
  }

  /** CPU time in ms for adding `count` Services and deleting them again, one by one. Each deletion is that of a VIP's owner. */
  function cost(count: number, addressOf: (i: number) => string): number {
    const { services, desired, putService, flush, listed } = setup();
    listed();
    return timeOf(() => {
      for (let i = 0; i < count; i += 1) {
        putService({ name: String(i).padStart(5, '0'), clusterIPs: { IPv4: addressOf(i) } });
        flush();
      }
      for (let i = 0; i < count; i += 1) {
        services.delete(`default/${String(i).padStart(5, '0')}`);
        flush();
      }
      expect(desired.size).toBe(0);
    });
  }

  test('many Services that claim one VIP cost about as much as Services with different VIPs', () => {
    const different = cost(2000, (i) => `10.96.${i >> 8}.${i & 255}`);
    expect(cost(2000, () => '10.96.0.10')).toBeLessThan(5 * different + 500);
  });

  test('if many Services claim one VIP, a deletion writes only its row and that of a new owner, and the conflict list is limited', () => {
    const { services, desired, controller, putService, flush, listed } = setup();
    listed();
    const names = seededOrder(300);
    for (const i of names) putService({ name: String(i).padStart(5, '0') });
    flush();
    expect(controller.conflictCount).toBe(1);
    const contenders = Array.from({ length: 10 }, (_, i) => keyOf(i + 1));
    expect(controller.conflicts()).toEqual([{ frontend: '10.96.0.10:80/TCP', owner: keyOf(0), contenders, more: 289 }]);
    const present = new Set(names);
    for (const i of seededOrder(299)) {
      const owner = Math.min(...present);
      services.delete(`default/${String(i).padStart(5, '0')}`);
      present.delete(i);
      const keys = flush().map((change) => change.key);
      expect(keys).toEqual(i === owner ? [keyOf(Math.min(...present)), keyOf(i)] : [keyOf(i)]);
      expect(desired.get(keyOf(Math.min(...present)))?.frontends).toHaveLength(1);
    }
    expect(controller.conflicts()).toEqual([]);
  });
});

/** The numbers 0..count-1 in an arbitrary but fixed order. */
const seededOrder = (count: number): number[] =>
  Array.from({ length: count }, (_, i) => i).toSorted((a, b) => ((a * 7919) % 1009) - ((b * 7919) % 1009) || a - b);

describe('this node', () => {
  const two = {
    endpoints: [
      endpointRow('10.0.0.1', { zoneHints: ['a'], nodeName: 'here' }),
      endpointRow('10.0.0.2', { zoneHints: ['b'], nodeName: 'there' }),
    ],
  };
  const here = (zone: string): Node => nodeRow('here', { addresses: ['192.168.0.1'], labels: { 'topology.kubernetes.io/zone': zone } });
  const usable = (row: DesiredPort | undefined): string[] => backendTexts((row?.backends ?? []).filter((backend) => backend.isUsable));

  test('a change of the zone of this node takes effect at once, and only rows that differ are written', () => {
    const { nodes, desired, putService, putSlice, flush, listed } = setup();
    nodes.upsert('here', here('a'));
    putService();
    putService({ name: 'plain', clusterIPs: { IPv4: '10.96.0.11' } });
    putSlice(two);
    listed();
    flush();
    expect(usable(desired.get(web))).toEqual(['10.0.0.1:8080']);
    nodes.upsert('here', here('b'));
    expect(flush().map((change) => change.key)).toEqual([web]);
    expect(usable(desired.get(web))).toEqual(['10.0.0.2:8080']);
    nodes.upsert('here', nodeRow('here', { addresses: ['192.168.0.1'] }));
    flush();
    expect(usable(desired.get(web))).toEqual(['10.0.0.1:8080', '10.0.0.2:8080']);
  });

  test('a change of another node or of an unused label writes nothing', () => {
    const { nodes, putService, putSlice, flush, listed } = setup();
    nodes.upsert('here', here('a'));
    putService();
    putSlice(two);
    listed();
    flush();
    nodes.upsert('there', here('b'));
    nodes.upsert('here', { ...here('a'), labels: { ...here('a').labels, other: 'x' }, isLeaving: true });
    expect(flush()).toEqual([]);
  });

  test('an address of this node that is added later serves NodePorts until it is removed', () => {
    const { localAddresses, desired, putService, flush, listed } = setup({ nodePortAddresses: 'all' });
    const frontends = (): string[] => (desired.get(web)?.frontends ?? []).map(({ address, port }) => `${address}:${port}`);
    putService({ type: 'NodePort', ports: [portRow({ nodePort: 30080 })] });
    listed();
    flush();
    expect(frontends()).toEqual(['10.96.0.10:80']);
    localAddresses.upsert('192.168.0.1', { address: '192.168.0.1', ifindex: 2 });
    localAddresses.upsert('127.0.0.1', { address: '127.0.0.1', ifindex: 1 });
    flush();
    expect(frontends()).toEqual(['10.96.0.10:80', '192.168.0.1:30080']);
    localAddresses.delete('192.168.0.1');
    flush();
    expect(frontends()).toEqual(['10.96.0.10:80']);
  });

  test('3.1: an external IP that is a node address takes precedence over an older NodePort until the Service of the IP is deleted', () => {
    const { nodes, services, desired, putService, flush, listed } = setup();
    nodes.upsert('here', here('a'));
    putService({ created: 1, type: 'NodePort', ports: [portRow({ nodePort: 30080 })] });
    const external = {
      name: 'ext',
      created: 9,
      clusterIPs: { IPv4: '10.96.0.11' },
      externalIPs: ['192.168.0.1'],
      ports: [portRow({ port: 30080 })],
    };
    putService(external);
    listed();
    flush();
    const types = (key: string): string[] => (desired.get(key)?.frontends ?? []).map(({ type }) => type);
    expect(types(web)).toEqual(['ClusterIP']);
    expect(types('default/ext:/TCP/IPv4')).toEqual(['ClusterIP', 'ExternalIP']);
    services.delete('default/ext');
    flush();
    expect(types(web)).toEqual(['ClusterIP', 'NodePort']);
  });
});
