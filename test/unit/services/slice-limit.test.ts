// SPDX-License-Identifier: Apache-2.0
// A Service with more endpoints than one Service may use: its oldest slices are served, the Service is named, and the room in the maps
// remains for the other Services.
import { describe, expect, test } from 'vitest';
import { ServiceController } from '../../../daemon/services/controller/service-controller.ts';
import { limitedSlices } from '../../../daemon/services/desired/slice-limit.ts';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import { type EndpointSlice, MAX_SERVICE_BACKENDS } from '../../../daemon/model/endpoint-slice.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import { dryRun } from '../../../daemon/offline/dry-run.ts';
import { sourceTables } from '../../../daemon/source/tables.ts';
import { Table } from '../../../daemon/table/table.ts';
import { endpointRow, hostSettings, serviceRow, slicePortRow, sliceRow } from '../../support/builders.ts';
import { ManualScheduler } from '../../support/fake-clock.ts';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { World } from '../../support/world.ts';
import { temporaryDirectory, writeFiles } from '../source/fixture.ts';

/** The n-th slice of the Service, with `count` endpoints that no other slice has. */
function sliceOf(n: number, count: number, fields: Partial<EndpointSlice> = {}): EndpointSlice {
  const addressOf = (i: number): string =>
    fields.family === 'IPv6' ? `fd00:${n.toString(16)}::${i.toString(16)}` : `10.${n}.${i >> 8}.${i & 255}`;
  return sliceRow({
    name: `web-${n}`,
    created: n,
    endpoints: Array.from({ length: count }, (_, i) => endpointRow(addressOf(i))),
    ...fields,
  });
}

const namesOf = (slices: readonly EndpointSlice[]): string[] => slices.map(({ name }) => name);

describe('the slices of one Service', () => {
  test('all slices are used up to the limit, which is counted per IP family', () => {
    const slices = [sliceOf(1, 6), sliceOf(2, 4), sliceOf(3, 10, { family: 'IPv6' })];
    expect(limitedSlices(slices, 10)).toEqual({ used: slices, messages: [] });
  });

  test('beyond the limit the oldest slices are used, whatever their order, and the other family is not affected', () => {
    const slices = [sliceOf(3, 4), sliceOf(1, 4), sliceOf(4, 1), sliceOf(2, 4), sliceOf(5, 10, { family: 'IPv6' })];
    const { used, messages } = limitedSlices(slices, 10);
    expect(namesOf(used).toSorted()).toEqual(['web-1', 'web-2', 'web-5']);
    expect(messages).toEqual([
      'Service default/web: its EndpointSlices have more than 10 combinations of endpoints and ports in IPv4, so the newest slices are not used: divide the Service',
    ]);
    expect(namesOf(limitedSlices(slices.toReversed(), 10).used).toSorted()).toEqual(['web-1', 'web-2', 'web-5']);
  });

  test('slices of unknown age are the newest, in the order of their names', () => {
    const slices = ['c', 'b', 'a'].map((name) => sliceRow({ name, endpoints: sliceOf(1, 4).endpoints }));
    expect(namesOf(limitedSlices([...slices, sliceOf(9, 4)], 12).used)).toEqual(['web-9', 'a', 'b']);
  });

  test('each port of a slice counts', () => {
    const ports = [slicePortRow({ name: 'a' }), slicePortRow({ name: 'b' })];
    expect(limitedSlices([sliceOf(1, 5, { ports }), sliceOf(2, 1)], 10).messages).toHaveLength(1);
  });
});

describe('the controller', () => {
  const web = 'default/web:/TCP/IPv4';

  function setup() {
    const scheduler = new ManualScheduler();
    const { schedule } = scheduler;
    const tables = sourceTables(schedule);
    const desired = new Table<string, DesiredPort>('desired', schedule);
    for (const table of [tables.services, tables.slices, tables.nodes, tables.localAddresses]) table.registerSource('test')();
    const logged: string[] = [];
    const onRefused = (message: string): void => void logged.push(message);
    const controller = new ServiceController({ ...tables, desired, nodeName: 'here', settings: hostSettings(), onRefused });
    controller.start();
    const put = (slice: EndpointSlice): void => {
      tables.slices.upsert(objectKey(slice), slice);
      scheduler.flush();
    };
    tables.services.upsert('default/web', serviceRow());
    scheduler.flush();
    return { tables, desired, controller, logged, put, flush: () => scheduler.flush() };
  }

  test('a Service keeps the backends that it had when slices beyond the limit are added, and is named once', () => {
    const { tables, desired, controller, logged, put, flush } = setup();
    const half = MAX_SERVICE_BACKENDS / 2;
    put(sliceOf(1, half));
    put(sliceOf(2, half));
    const before = desired.get(web);
    expect([before?.backends.length, controller.limited()]).toEqual([MAX_SERVICE_BACKENDS, []]);
    for (const n of [3, 4, 5]) put(sliceOf(n, half));
    expect(desired.get(web)).toBe(before);
    expect(controller.limited()).toEqual([expect.stringMatching(/^Service default\/web: .* more than 65536 .* IPv4/)]);
    expect(logged).toEqual(controller.limited());
    for (const n of [3, 4, 5]) tables.slices.delete(`default/web-${n}`);
    flush();
    expect([desired.get(web), controller.limited()]).toEqual([before, []]);
  });

  test('a Service that is deleted is no longer named', () => {
    const { tables, controller, put, flush } = setup();
    const third = Math.ceil(MAX_SERVICE_BACKENDS / 3) + 1;
    for (const n of [1, 2, 3]) put(sliceOf(n, third));
    expect(controller.limited()).toHaveLength(1);
    tables.services.delete('default/web');
    flush();
    expect(controller.limited()).toEqual([]);
  });
});

test('a Service with as many endpoints as the map has room for leaves room for another large Service', () => {
  const most = 262_144; // the default sizes
  const world = new World({ maps: fakeLbMaps({ frontends: 16, services: 16, slots: 4 * most, backends: most }) });
  world.put(serviceRow(), ...[1, 2, 3, 4].map((n) => sliceOf(n, 60_000))).listed();
  const other = { name: 'other', clusterIPs: { IPv4: '10.96.0.11' } };
  world.put(serviceRow(other), sliceOf(5, 30_000, { name: 'other-1', service: 'other' })).flush();
  expect(world.reconciler.counts()).toEqual({ done: 2, pending: 0, error: 0 });
  expect([...world.desired.all()].map(([key, { backends }]) => [key, backends.length])).toEqual([
    ['default/web:/TCP/IPv4', 60_000],
    ['default/other:/TCP/IPv4', 30_000],
  ]);
});

test('a dry run leaves out the same slices, and reports them as a problem', () => {
  const directory = temporaryDirectory();
  const service = { kind: 'Service', metadata: { name: 'web' }, spec: { clusterIP: '10.96.0.10', ports: [{ port: 80 }] } };
  const slices = [2, 1].map((n) => ({
    kind: 'EndpointSlice',
    metadata: {
      ...{ name: `web-${n}`, labels: { 'kubernetes.io/service-name': 'web' } },
      creationTimestamp: `2026-01-0${n}T00:00:00Z`,
    },
    ...{ addressType: 'IPv4', ports: [{ port: 8080 }] },
    endpoints: sliceOf(n, 40_000).endpoints.map(({ address }) => ({ addresses: [address] })),
  }));
  const items = [service, ...slices].map((object) => ({ apiVersion: object.kind === 'Service' ? 'v1' : 'discovery.k8s.io/v1', ...object }));
  writeFiles(directory, { 'all.json': JSON.stringify({ kind: 'List', items }) });
  const { ports, problems } = dryRun({ objects: directory, node: { name: 'here' }, settings: hostSettings() });
  const { backends = [] } = ports.get('default/web:/TCP/IPv4') ?? {};
  expect([backends.length, backends.every(({ address }) => address.startsWith('10.1.'))]).toEqual([40_000, true]);
  expect(problems).toEqual([expect.stringMatching(/^Service default\/web: its EndpointSlices have more than 65536 /)]);
});
