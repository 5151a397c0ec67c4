// SPDX-License-Identifier: Apache-2.0
// Desired rows of a Service and its EndpointSlices (test/README.md, 7 and 8), the comparison of rows, and the packet oracle.
// The packet cases of test/README.md, part B, are in semantics.test.ts.
import { describe, expect, test } from 'vitest';
import { desiredPorts } from '../../../daemon/services/desired/desired-ports.ts';
import { nodeContext } from '../../../daemon/services/desired/node-context.ts';
import { isSamePort } from '../../../daemon/services/desired/order.ts';
import { trace } from '../../support/oracle.ts';
import type { Backend } from '../../../daemon/model/frontend.ts';
import type { EndpointSlice, SliceEndpoint } from '../../../daemon/model/endpoint-slice.ts';
import {
  backendRow,
  backendTexts,
  desiredRow,
  endpointRow,
  frontendRow,
  hostSettings,
  nodeRow,
  portRow,
  serviceRow,
  sliceRow,
} from '../../support/builders.ts';

const here = nodeContext({ nodeName: 'here', node: nodeRow('here'), localAddresses: [], settings: hostSettings() });

const backendsOf = (...slices: EndpointSlice[]): readonly Backend[] => desiredPorts(serviceRow(), slices, here)[0]?.backends ?? [];

const usable = (backends: readonly Backend[]): string[] => backendTexts(backends.filter((backend) => backend.isUsable));

describe('rows of a Service', () => {
  const dual = { IPv4: '10.96.0.10', IPv6: 'fd00::a' };
  test.for([
    { name: 'one port, one family', service: serviceRow(), want: ['default/web:/TCP/IPv4'] },
    { name: 'both families', service: serviceRow({ clusterIPs: dual }), want: ['default/web:/TCP/IPv4', 'default/web:/TCP/IPv6'] },
    { name: 'no ports', service: serviceRow({ ports: [] }), want: [] },
    { name: 'no address', service: serviceRow({ clusterIPs: {} }), want: [] },
    {
      name: 'one port number in two protocols',
      service: serviceRow({ ports: [portRow({ name: 'dns', port: 53 }), portRow({ name: 'dns', protocol: 'UDP', port: 53 })] }),
      want: ['default/web:dns/TCP/IPv4', 'default/web:dns/UDP/IPv4'],
    },
    { name: 'SCTP', service: serviceRow({ ports: [portRow({ protocol: 'SCTP' })] }), want: ['default/web:/SCTP/IPv4'] },
    {
      name: 'two ports with the same name and protocol give one row',
      service: serviceRow({ ports: [portRow(), portRow({ port: 81 })] }),
      want: ['default/web:/TCP/IPv4'],
    },
  ])('a Service has the expected rows: $name', ({ service, want }) => {
    expect(desiredPorts(service, [], here).map((row) => row.key)).toEqual(want);
  });

  test('the row lists its frontend', () => {
    const [row] = desiredPorts(serviceRow({ clusterIPs: { IPv6: 'fd00::a' } }), [], here);
    expect(row?.frontends).toEqual([
      { address: 'fd00::a', family: 'IPv6', port: 80, protocol: 'TCP', type: 'ClusterIP', policy: 'Cluster', hasSourceRanges: false },
    ]);
  });
});

describe('backends of a row', () => {
  test('backends come from every slice, each once, sorted by address value and then by port', () => {
    const backends = backendsOf(
      sliceRow({ name: 'a', endpoints: [endpointRow('10.0.0.10'), endpointRow('10.0.0.9')] }),
      sliceRow({ name: 'b', endpoints: [endpointRow('10.0.0.9')] }),
      sliceRow({ name: 'c', ports: [portRow({ port: 80 })], endpoints: [endpointRow('10.0.0.10')] }),
    );
    expect(backendTexts(backends)).toEqual(['10.0.0.9:8080', '10.0.0.10:80', '10.0.0.10:8080']);
  });

  test('IPv6 backends are sorted by value too, and come only from IPv6 slices', () => {
    const service = serviceRow({ clusterIPs: { IPv6: 'fd00::a' } });
    const v6 = sliceRow({ family: 'IPv6', endpoints: [endpointRow('fd00::10'), endpointRow('fd00::9'), endpointRow('fd00::1:0')] });
    const [row] = desiredPorts(service, [v6, sliceRow({ name: 'v4', endpoints: [endpointRow('10.0.0.1')] })], here);
    expect(row?.backends.map((backend) => backend.address)).toEqual(['fd00::9', 'fd00::10', 'fd00::1:0']);
  });

  test.for([
    { name: 'another port name', ports: [portRow({ name: 'metrics', port: 8080 })] },
    { name: 'another protocol', ports: [portRow({ protocol: 'UDP', port: 8080 })] },
    { name: 'no port', ports: [] },
  ] as const)('a slice with $name gives no backends', ({ ports }) => {
    expect(backendsOf(sliceRow({ ports, endpoints: [endpointRow('10.0.0.1')] }))).toEqual([]);
  });

  test('one port name may stand for several port numbers', () => {
    const ports = [portRow({ port: 8080 }), portRow({ port: 9090 })];
    expect(backendTexts(backendsOf(sliceRow({ ports, endpoints: [endpointRow('10.0.0.1')] })))).toEqual(['10.0.0.1:8080', '10.0.0.1:9090']);
  });

  const ready = endpointRow('10.0.0.1');
  const unready = endpointRow('10.0.0.2', { ready: false });
  const draining = endpointRow('10.0.0.3', { ready: false, terminating: true });
  const dying = endpointRow('10.0.0.4', { ready: false, serving: false, terminating: true });
  const published = endpointRow('10.0.0.5', { terminating: true });
  test.for<{ name: string; endpoints: SliceEndpoint[]; want: string[] }>([
    { name: 'ready endpoints', endpoints: [ready, unready, draining, dying], want: ['10.0.0.1:8080'] },
    {
      name: 'without a ready endpoint: endpoints that are serving while terminating',
      endpoints: [unready, draining, dying],
      want: ['10.0.0.3:8080'],
    },
    { name: 'never an endpoint that is neither ready nor terminating', endpoints: [unready], want: [] },
    { name: 'never an endpoint that is terminating and not serving', endpoints: [dying], want: [] },
    { name: 'a ready endpoint, even while it is terminating', endpoints: [published, draining], want: ['10.0.0.5:8080'] },
  ])('the usable endpoints are $name', ({ endpoints, want }) => {
    const backends = backendsOf(sliceRow({ endpoints }));
    expect(usable(backends)).toEqual(want);
    // Endpoints that are not usable stay in the row, because existing flows refer to them.
    expect(backends).toHaveLength(endpoints.length);
  });

  test('a usable backend counts as serving, so an address that is published while its pod is not ready keeps its flows', () => {
    expect(backendsOf(sliceRow({ endpoints: [{ ...published, serving: false }] }))).toMatchObject([{ isUsable: true, isServing: true }]);
  });

  test('backends are local if their nodeName is the name of this node', () => {
    const endpoints = [
      endpointRow('10.0.0.1', { nodeName: 'here' }),
      endpointRow('10.0.0.2', { nodeName: 'there' }),
      endpointRow('10.0.0.3'),
    ];
    expect(backendsOf(sliceRow({ endpoints })).map((backend) => backend.isLocal)).toEqual([true, false, false]);
  });

  test.for([
    {
      name: 'a copy that is not terminating takes precedence',
      copies: [draining, { ...unready, address: '10.0.0.3' }],
      want: { isUsable: false, isServing: true },
    },
    {
      name: 'of two copies that are not terminating, the ready one takes precedence',
      copies: [endpointRow('10.0.0.3', { ready: false }), endpointRow('10.0.0.3')],
      want: { isUsable: true, isServing: true },
    },
    {
      name: 'of two equal copies, the one with the greater node name takes precedence',
      copies: [endpointRow('10.0.0.3', { nodeName: 'a' }), endpointRow('10.0.0.3', { nodeName: 'here' })],
      want: { isLocal: true },
    },
  ])('$name, in either order', ({ copies, want }) => {
    const [first, second] = copies.map((copy, i) => sliceRow({ name: `s${i}`, endpoints: [copy] }));
    if (first === undefined || second === undefined) throw new Error('the case must have two copies');
    expect(backendsOf(first, second)).toEqual([expect.objectContaining(want)]);
    expect(backendsOf(second, first)).toEqual(backendsOf(first, second));
  });
});

describe('isSamePort', () => {
  const row = desiredRow('web', [frontendRow('10.96.0.10')], [backendRow('10.0.0.1')]);
  test.for([
    { name: 'an equal row', other: desiredRow('web', [frontendRow('10.96.0.10')], [backendRow('10.0.0.1')]), want: true },
    { name: 'another frontend', other: { ...row, frontends: [frontendRow('10.96.0.11')] }, want: false },
    { name: 'one frontend less', other: { ...row, frontends: [] }, want: false },
    { name: 'another policy', other: { ...row, frontends: [frontendRow('10.96.0.10', { policy: 'Local' })] }, want: false },
    { name: 'another type', other: { ...row, frontends: [frontendRow('10.96.0.10', { type: 'ExternalIP' })] }, want: false },
    { name: 'with source ranges', other: { ...row, frontends: [frontendRow('10.96.0.10', { hasSourceRanges: true })] }, want: false },
    { name: 'other source ranges', other: { ...row, sourceRanges: ['10.0.0.0/8'] }, want: false },
    { name: 'another affinity timeout', other: { ...row, affinitySeconds: 10 }, want: false },
    { name: 'another backend', other: { ...row, backends: [backendRow('10.0.0.2')] }, want: false },
    { name: 'one more backend', other: { ...row, backends: [...row.backends, backendRow('10.0.0.2')] }, want: false },
    { name: 'in the local set too', other: { ...row, backends: [backendRow('10.0.0.1', { isLocallyUsable: true })] }, want: false },
    { name: 'another state', other: { ...row, backends: [backendRow('10.0.0.1', { isServing: false })] }, want: false },
  ])('isSamePort returns $want for $name', ({ other, want }) => {
    expect(isSamePort(row, other)).toBe(want);
  });
});

describe('trace', () => {
  const web = desiredRow(
    'web',
    [frontendRow('10.96.0.10')],
    [backendRow('10.0.0.1'), backendRow('10.0.0.2'), backendRow('10.0.0.3', { isUsable: false })],
  );
  const empty = desiredRow('empty', [frontendRow('fd00::a')], []);
  const packet = { protocol: 'TCP', sourceIP: '10.0.0.9', sourcePort: 4000, destIP: '10.96.0.10', destPort: 80 } as const;
  test.for([
    { name: 'to a frontend', packet, want: { verdict: 'DNAT', candidates: ['10.0.0.1:8080', '10.0.0.2:8080'], hairpin: [] } },
    {
      name: 'from one of its backends',
      packet: { ...packet, sourceIP: '10.0.0.2' },
      want: { verdict: 'DNAT', hairpin: ['10.0.0.2:8080'] },
    },
    {
      name: 'to a frontend without backends',
      packet: { ...packet, sourceIP: 'fd00::9', destIP: 'fd00:0::a' },
      want: { verdict: 'REJECT', candidates: [] },
    },
    { name: 'to another port', packet: { ...packet, destPort: 81 }, want: { verdict: 'NONE' } },
    { name: 'in another protocol', packet: { ...packet, protocol: 'UDP' as const }, want: { verdict: 'NONE' } },
    { name: 'to another address', packet: { ...packet, destIP: '10.96.0.11' }, want: { verdict: 'NONE' } },
    { name: 'to no address', packet: { ...packet, destIP: 'web' }, want: { verdict: 'NONE' } },
  ])('a packet $name', ({ packet: sent, want }) => {
    expect(trace({ ports: [web, empty] }, sent)).toMatchObject(want);
    expect(trace({ ports: new Map([web, empty].map((row) => [row.key, row])) }, sent)).toMatchObject(want);
  });
});
