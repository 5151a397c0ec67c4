// SPDX-License-Identifier: Apache-2.0
// Read this test first. The tests follow one Service from YAML to the bytes that the datapath reads: source, controller,
// reconciler, maps. Each test is one step and starts from the result of the previous step.
import { parse } from 'yaml';
import { describe, expect, test } from 'vitest';
import { ServiceController } from '../../daemon/services/controller/service-controller.ts';
import { trace } from '../support/oracle.ts';
import { encoded } from '../../daemon/maps/codec.ts';
import { fakeLbMaps } from '../support/fake-maps.ts';
import { lb4BackendCodec, lb4KeyCodec, lbFrontendCodec, lbServiceCodec } from '../../daemon/maps/gen/layouts.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import type { LocalAddress } from '../../daemon/model/host.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../daemon/model/node.ts';
import type { Service } from '../../daemon/model/service.ts';
import { Table } from '../../daemon/table/table.ts';
import { dumpMaps } from '../support/dump-maps.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import { convertObject } from '../../daemon/source/objects.ts';
import { hostSettings } from '../support/builders.ts';
import { FakeClock, ManualScheduler } from '../support/fake-clock.ts';

const service = `
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default, creationTimestamp: "2025-01-01T00:00:00Z" }
spec: { clusterIP: 10.96.0.10, ports: [{ name: http, port: 80, targetPort: 8080 }] }
`;

const slice = `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: web-abc, namespace: default, labels: { kubernetes.io/service-name: web } }
addressType: IPv4
ports: [{ name: http, port: 8080 }]
endpoints:
- { addresses: [10.244.1.2], nodeName: node-1, conditions: { ready: true } }
- { addresses: [10.244.2.2], nodeName: node-2, conditions: { ready: false, serving: true, terminating: true } }
`;

describe('a Service, from YAML to bytes', () => {
  const scheduler = new ManualScheduler();
  const services = new Table<string, Service>('services', scheduler.schedule);
  const slices = new Table<string, EndpointSlice>('slices', scheduler.schedule);
  const nodes = new Table<string, Node>('nodes', scheduler.schedule);
  const localAddresses = new Table<string, LocalAddress>('local-addresses', scheduler.schedule);
  const desired = new Table<string, DesiredPort>('desired', scheduler.schedule);
  const maps = fakeLbMaps();
  const frontend = { address: '10.96.0.10', port: 80, protocol: 6 };
  const bytes = (row: Uint8Array): string =>
    Buffer.from(row)
      .toString('hex')
      .replace(/(.{8})(?=.)/g, '$1 ');

  test('1. source: each object becomes a row with the fields that Sluice uses', () => {
    const listed = [services, slices, nodes, localAddresses].map((table) => table.registerSource('story'));
    for (const text of [service, slice]) {
      const object = convertObject(parse(text));
      expect(object.problems).toEqual([]);
      if (object.kind === 'Service' && object.row !== undefined) services.upsert(object.key, object.row);
      if (object.kind === 'EndpointSlice' && object.row !== undefined) slices.upsert(object.key, object.row);
    }
    // Controllers write nothing until the first list of every source is complete.
    for (const mark of listed) mark();
    expect(services.get('default/web')).toMatchObject({
      clusterIPs: { IPv4: '10.96.0.10' },
      ports: [{ name: 'http', protocol: 'TCP', port: 80 }],
    });
    expect(slices.get('default/web-abc')).toMatchObject({ service: 'web', family: 'IPv4', ports: [{ name: 'http', port: 8080 }] });
  });

  test('2. desired: the controller computes the row of the Service; while a backend is ready, draining ones get no new flows', () => {
    const own = { nodes, localAddresses, nodeName: 'node-1', settings: hostSettings() };
    new ServiceController({ services, slices, desired, apiServers: new Table('api-servers', setImmediate), ...own }).start();
    expect(desired.get('default/web:http/TCP/IPv4')).toMatchObject({
      frontends: [{ address: '10.96.0.10', port: 80, protocol: 'TCP', type: 'ClusterIP', policy: 'Cluster', hasSourceRanges: false }],
      backends: [
        { address: '10.244.1.2', port: 8080, isUsable: true, isLocal: true, isServing: true },
        { address: '10.244.2.2', port: 8080, isUsable: false, isLocal: false, isServing: true },
      ],
    });
  });

  test('3. oracle: the rows alone determine what must happen to a packet', () => {
    const packet = { protocol: 'TCP', sourceIP: '10.244.1.9', sourcePort: 40_000, destIP: '10.96.0.10', destPort: 80 } as const;
    const ports = new Map(desired.all());
    expect(trace({ ports }, packet)).toMatchObject({ verdict: 'DNAT', candidates: ['10.244.1.2:8080'], hairpin: [] });
    expect(trace({ ports }, { ...packet, destPort: 81 })).toMatchObject({ verdict: 'NONE' });
  });

  test('4. reconcile: the row is written in an order that never exposes an incomplete state: the frontend comes last', () => {
    const clock = new FakeClock();
    const silent = { rowFailed: () => {}, rowRecovered: () => {}, stepFailed: () => {}, stepRecovered: () => {}, repaired: () => {} };
    const operations = new LbOperations({ maps, clock });
    const reconciler = new Reconciler({ table: desired, operations, clock, schedule: scheduler.schedule, log: silent });
    reconciler.start();
    scheduler.flush();
    expect(reconciler.status('default/web:http/TCP/IPv4')?.kind).toBe('done');
    expect(reconciler.isReady).toBe(true);
    expect(maps.writes.map((write) => write.map)).toEqual(['lb4_backends', 'lb4_backends', 'lb_slots', 'lb_services', 'lb4_frontends']);
  });

  test('5. maps: a frontend refers to a service index, the index to a run of slots, a slot to a backend; dumps show names instead of numbers', () => {
    expect(maps.frontends.IPv4.get(frontend)).toMatchObject({ service: 1 });
    expect(maps.services.get(1)).toMatchObject({ base: 0, count: 1 });
    expect(maps.slots.read(0, 1)).toEqual([1]);
    expect(maps.backends.IPv4.get(1)).toMatchObject({ address: '10.244.1.2', port: 8080, service: 1 });
    expect(dumpMaps(maps)).toEqual([
      'BE 10.96.0.10:80/TCP 10.244.1.2:8080 usable,local,serving',
      'BE 10.96.0.10:80/TCP 10.244.2.2:8080 serving',
      'FE 10.96.0.10:80/TCP internal -> #10.96.0.10:80/TCP',
      'SVC 10.96.0.10:80/TCP [10.244.1.2:8080]',
    ]);
  });

  test('6. bytes: the programs in datapath/ read these bytes; the codecs are generated from the structs of the programs', () => {
    const value = maps.frontends.IPv4.get(frontend) ?? { service: 0, meta: 0 };
    // Address, port and protocol in network byte order.
    expect(bytes(encoded(lb4KeyCodec, frontend))).toBe('0a60000a 00500600');
    // Service index 1, no flags, and the check value that detects a recycled hash element. From here on, all values except addresses,
    // ports and protocols are in host byte order.
    expect(bytes(encoded(lbFrontendCodec, value))).toBe('01000000 00c90d6a');
    expect(bytes(encoded(lbServiceCodec, maps.services.get(1)))).toMatch(/^00000000 01000000( 00000000){6}$/);
    // Address; port and padding; service index 1; meta, which is generation 1 and the state usable + local + serving + present.
    expect(bytes(encoded(lb4BackendCodec, maps.backends.IPv4.get(1)))).toBe('0af40102 1f900000 01000000 0f010000');
  });
});
