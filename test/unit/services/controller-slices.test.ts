// SPDX-License-Identifier: Apache-2.0
// The controllers work in slices: thousands of changed objects hold up neither the event loop nor a single change, and a pause changes
// nothing that the slices together guarantee.
import { expect, test } from 'vitest';
import { Turns } from '../../../daemon/base/slices.ts';
import type { ApiServerAddress } from '../../../daemon/model/api-server.ts';
import type { EndpointSlice } from '../../../daemon/model/endpoint-slice.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../../../daemon/model/frontend.ts';
import type { LocalAddress } from '../../../daemon/model/host.ts';
import type { Node } from '../../../daemon/model/node.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import type { Service } from '../../../daemon/model/service.ts';
import type { ServiceCIDR } from '../../../daemon/model/service-cidr.ts';
import { HostController } from '../../../daemon/services/controller/host-controller.ts';
import { ServiceController } from '../../../daemon/services/controller/service-controller.ts';
import { type Scheduler, Table } from '../../../daemon/table/table.ts';
import { backendTexts, endpointRow, hostSettings, portRow, serviceRow, sliceRow } from '../../support/builders.ts';
import { countedPace, ManualScheduler } from '../../support/fake-clock.ts';
import { longestTurn } from '../../support/turns.ts';

function tables(schedule: Scheduler) {
  return {
    services: new Table<string, Service>('services', schedule),
    slices: new Table<string, EndpointSlice>('slices', schedule),
    nodes: new Table<string, Node>('nodes', schedule),
    serviceCIDRs: new Table<string, ServiceCIDR>('service-cidrs', schedule),
    localAddresses: new Table<string, LocalAddress>('local-addresses', schedule),
    apiServers: new Table<string, ApiServerAddress>('api-servers', schedule),
    desired: new Table<string, DesiredPort>('desired', schedule),
    ranges: new Table<string, DesiredRange>('ranges', schedule),
    host: new Table<string, DesiredHost>('host', schedule),
  };
}

const own = { nodeName: 'here', settings: hostSettings() };

/** Controllers that pause after each step, or after the given number of steps. */
function setup(stepsPerSlice = 1, isBehind = (): boolean => false) {
  const scheduler = new ManualScheduler();
  const all = tables(scheduler.schedule);
  const { services, slices, nodes, serviceCIDRs, localAddresses } = all;
  for (const table of [services, slices, nodes, serviceCIDRs, localAddresses]) table.registerSource('test')();
  const pace = countedPace(scheduler, stepsPerSlice);
  const controller = new ServiceController({ ...all, ...own, pace, isBehind });
  const hostController = new HostController({ ...all, ...own, pace });
  for (const each of [controller, hostController]) each.start();
  scheduler.flush();
  const put = (...rows: readonly (Service | EndpointSlice)[]): void => {
    for (const row of rows) {
      if ('clusterIPs' in row) services.upsert(objectKey(row), row);
      else slices.upsert(objectKey(row), row);
    }
  };
  /** Runs all rounds and calls `look` after each of them. Returns the number of rounds. */
  const rounds = (look: () => void): number => {
    let count = 0;
    for (; scheduler.round() > 0; count += 1) look();
    return count;
  };
  return { ...all, scheduler, controller, hostController, put, rounds };
}

const nth = (i: number, fields: Partial<Service> = {}): Service =>
  serviceRow({ name: `s${i}`, clusterIPs: { IPv4: `10.96.${i >> 8}.${i & 255}`, IPv6: `fd00:96::${i.toString(16)}` }, ...fields });
const many = (count: number): Service[] => Array.from({ length: count }, (_, i) => nth(i));
const webKey = 'default/web:/TCP/IPv4';

test('10,000 Services and their slices that change together do not hold up the event loop', async () => {
  const all = tables(setImmediate);
  const { services, slices, nodes, serviceCIDRs, localAddresses, desired, ranges } = all;
  for (const table of [services, slices, nodes, serviceCIDRs, localAddresses]) table.registerSource('test')();
  const pace = new Turns();
  for (const each of [new HostController({ ...all, ...own, pace }), new ServiceController({ ...all, ...own, pace })]) each.start();
  const rows = Array.from({ length: 10_000 }, (_, i) => nth(i, { ports: [portRow(), portRow({ name: 'b', port: 81 })] }));
  const endpoints = Array.from({ length: 10 }, (_, n) => endpointRow(`10.0.0.${n}`));
  const changeAll = (write: (row: Service) => void, isDone: () => boolean): Promise<number> => {
    for (const row of rows) write(row);
    return longestTurn(isDone);
  };
  const add = (row: Service): void => {
    services.upsert(objectKey(row), row);
    slices.upsert(objectKey(row), sliceRow({ name: row.name, service: row.name, endpoints }));
  };
  const added = await changeAll(add, () => desired.size === 40_000 && ranges.size >= 20_000);
  const removed = await changeAll(
    (row) => services.delete(objectKey(row)),
    () => desired.size === 0,
  );
  // All work together takes several hundred milliseconds, and a slice has 3 ms. A turn may also collect garbage.
  expect(Math.max(added, removed)).toBeLessThan(60);
}, 60_000);

test('a single change does not wait for thousands of earlier changes', () => {
  const { desired, put, scheduler, rounds } = setup();
  put(serviceRow(), ...many(2000));
  rounds(() => undefined);
  put(...many(2000).map((row) => ({ ...row, affinitySeconds: 60 })));
  for (let round = 0; round < 100; round += 1) scheduler.round();
  const isChanged = (i: number): boolean => desired.get(`default/s${i}:/TCP/IPv4`)?.affinitySeconds === 60;
  put(sliceRow({ endpoints: [endpointRow('10.0.0.1')] }));
  let [round, ofChange, ofAll] = [0, 0, 0];
  rounds(() => {
    round += 1;
    if (ofChange === 0 && desired.get(webKey)?.backends.length === 1) ofChange = round;
    if (ofAll === 0 && isChanged(0) && isChanged(1999)) ofAll = round;
  });
  expect(ofChange).toBeLessThan(20);
  expect(ofAll).toBeGreaterThan(1000);
});

test('thousands of changes are finished although single changes never end', () => {
  const { desired, put, scheduler } = setup(4);
  put(serviceRow(), ...many(500));
  let rounds = 0;
  for (; desired.size < 1001; rounds += 1) {
    put(sliceRow({ endpoints: [endpointRow(`10.0.0.${rounds % 250}`)] }));
    scheduler.round();
    if (rounds > 5000) break;
  }
  expect(desired.size).toBe(1001);
});

test('while the loop is behind, only single changes are written', () => {
  let isBehind = false;
  const { desired, put, scheduler, rounds } = setup(4, () => isBehind);
  put(serviceRow(), ...many(200));
  scheduler.round();
  isBehind = true;
  for (let round = 0; round < 50; round += 1) scheduler.round();
  const { size } = desired;
  put(serviceRow({ name: 'single', clusterIPs: { IPv4: '192.0.2.1' } }));
  for (let round = 0; round < 50; round += 1) scheduler.round();
  expect([size, desired.size, desired.get('default/single:/TCP/IPv4')?.name]).toEqual([0, 1, 'single']);
  isBehind = false;
  rounds(() => undefined);
  expect(desired.size).toBe(402);
});

test('a VIP that moves from one Service to another among many changes is served at all times', () => {
  const { desired, put, services, rounds } = setup();
  const vip = { IPv4: '192.0.2.1' };
  put(serviceRow({ name: 'old', clusterIPs: vip }), ...many(300));
  rounds(() => undefined);
  services.delete('default/old');
  put(...many(300).map((row) => ({ ...row, affinitySeconds: 60 })), serviceRow({ name: 'new', clusterIPs: vip }));
  const owners = new Set<string>();
  const order: string[] = [];
  const changes = desired.observe();
  changes.take();
  rounds(() => {
    for (const { key } of changes.take()) if (/old|new/.test(key)) order.push(key);
    const serving = [...desired.all()].filter(([, row]) => row.frontends.some(({ address }) => address === vip.IPv4));
    owners.add(serving.map(([key]) => key).join(' and '));
  });
  // Never two owners: the loop would take the VIP away from the new one when it tries the row of the old one again.
  expect([...owners]).toEqual(['default/old:/TCP/IPv4', 'default/new:/TCP/IPv4']);
  expect(order).toEqual(['default/new:/TCP/IPv4', 'default/old:/TCP/IPv4']);
});

test('an endpoint that moves between slices is never missing, however many slices change with them', () => {
  const { desired, put, rounds } = setup();
  const endpoints = [endpointRow('10.0.0.1')];
  const others = Array.from({ length: 1000 }, (_, i) => sliceRow({ name: `other-${i}`, service: `other-${i}` }));
  put(serviceRow(), sliceRow({ name: 'from', endpoints }), sliceRow({ name: 'to' }), ...others);
  rounds(() => undefined);
  const { revision } = desired;
  put(sliceRow({ name: 'from' }), ...others.map((row) => ({ ...row, endpoints })), sliceRow({ name: 'to', endpoints }));
  rounds(() => expect(backendTexts(desired.get(webKey)?.backends ?? [])).toEqual(['10.0.0.1:8080']));
  expect(desired.revision).toBe(revision);
});

test('after a start nothing is written before every Service has been computed, so a contested VIP gets its owner at once', () => {
  const scheduler = new ManualScheduler();
  const all = tables(scheduler.schedule);
  const { services, slices, nodes, localAddresses, desired } = all;
  const rows = [serviceRow({ name: 'young', created: 2000 }), ...many(300), serviceRow({ name: 'old', created: 1000 })];
  for (const row of rows) services.upsert(objectKey(row), row);
  for (const table of [services, slices, nodes, localAddresses]) table.registerSource('test')();
  new ServiceController({ ...all, ...own, pace: countedPace(scheduler, 1) }).start();
  while (scheduler.round() > 0) {
    const young = desired.get('default/young:/TCP/IPv4');
    expect(young?.frontends ?? []).toEqual([]);
    if (desired.size < 602) expect(desired.initialized).toBe(false);
  }
  expect([desired.size, desired.initialized]).toEqual([602, true]);
});

test('a change of this node during the work reaches every row', () => {
  const { desired, localAddresses, put, scheduler, rounds } = setup();
  put(...many(200).map((row, i) => ({ ...row, type: 'NodePort' as const, ports: [portRow({ nodePort: 30_000 + i })] })));
  for (let round = 0; round < 100; round += 1) scheduler.round();
  localAddresses.upsert('192.0.2.7', { address: '192.0.2.7', ifindex: 2 });
  rounds(() => undefined);
  const without = [...desired.all()].filter(
    ([, row]) => row.family === 'IPv4' && !row.frontends.some(({ address }) => address === '192.0.2.7'),
  );
  expect(without).toEqual([]);
});

test('after stop nothing is written, even if the work is not finished', () => {
  const { controller, hostController, desired, ranges, put, scheduler } = setup();
  put(...many(100));
  for (let round = 0; round < 150; round += 1) scheduler.round();
  const before = [desired.revision, ranges.revision];
  for (const each of [controller, hostController]) each.stop();
  scheduler.flush();
  expect([desired.revision, ranges.revision]).toEqual(before);
  expect(controller.work.isBusy).toBe(true);
});

test('the members of the set of ClusterIPs follow thousands of changes in slices, and nothing is left behind', () => {
  const { ranges, services, put, rounds } = setup();
  put(...many(500));
  expect(rounds(() => undefined)).toBeGreaterThan(500);
  const clusterIPs = (): number => [...ranges.all()].filter(([, { set }]) => set === 'clusterIP').length;
  expect(clusterIPs()).toBe(1000);
  for (const row of many(500)) services.delete(objectKey(row));
  rounds(() => undefined);
  expect(clusterIPs()).toBe(0);
});
