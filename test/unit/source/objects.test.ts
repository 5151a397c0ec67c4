// SPDX-License-Identifier: Apache-2.0
// Conversion of EndpointSlices, Nodes, ServiceCIDRs and unknown objects: a row, or an error that names the field
// (test/README.md, 1, 7, 8 and 14).
import { describe, expect, test } from 'vitest';
import { fieldPath, fieldText } from '../../../daemon/source/convert/fields.ts';
import { convertObject } from '../../../daemon/source/objects.ts';
import { nodeRow } from '../../support/builders.ts';
import { problemsOf, rejectionOf, rowOf, serviceObject as service, sliceObject as slice } from './convert-fixture.ts';

describe('EndpointSlice', () => {
  test('an EndpointSlice with more combinations of ports and endpoints than fit into the maps is rejected', () => {
    const raw = (count: number) =>
      slice({
        ports: Array.from({ length: count }, (_, n) => ({ name: `p${n}`, port: 8080 })),
        endpoints: Array.from({ length: 1000 }, (_, n) => ({ addresses: [`10.1.${n >> 8}.${n & 255}`] })),
      });
    expect(rejectionOf(raw(1000)).message).toBe(
      'EndpointSlice default/web-1 ports: must have at most 65536 combinations with the endpoints, has 1000 ports and 1000 endpoints',
    );
    expect(problemsOf(raw(65))).toEqual([]);
  });

  test('an EndpointSlice is converted to a row, in which absent conditions have their defaults', () => {
    const endpoints = [
      { addresses: ['10.0.0.1', '10.0.0.9'], nodeName: 'n1', targetRef: {} },
      { addresses: ['10.0.0.2'], conditions: {} },
      { addresses: ['10.0.0.3'], conditions: { ready: false, serving: null, terminating: true } },
      { addresses: ['10.0.0.4'], conditions: { ready: true, serving: false, terminating: false }, nodeName: null },
    ];
    expect(
      convertObject(
        slice({
          endpoints,
          ports: [
            { name: 'http', port: 80, appProtocol: 'x' },
            { port: 53, protocol: 'UDP' },
          ],
        }),
      ),
    ).toEqual({
      kind: 'EndpointSlice',
      key: 'default/web-1',
      problems: [],
      row: {
        namespace: 'default',
        name: 'web-1',
        service: 'web',
        family: 'IPv4',
        ports: [
          { name: 'http', protocol: 'TCP', port: 80 },
          { name: '', protocol: 'UDP', port: 53 },
        ],
        endpoints: [
          { address: '10.0.0.1', ready: true, serving: true, terminating: false, nodeName: 'n1' },
          { address: '10.0.0.2', ready: true, serving: true, terminating: false },
          { address: '10.0.0.3', ready: false, serving: true, terminating: true },
          { address: '10.0.0.4', ready: true, serving: false, terminating: false },
        ],
      },
    });
  });

  test('an EndpointSlice has hints as lists of names, and an empty list is no hint', () => {
    const hints = { forZones: [{ name: 'a' }, { name: 'b' }], forNodes: [{ name: 'n1' }] };
    const endpoints = [
      { addresses: ['10.0.0.1'], hints },
      { addresses: ['10.0.0.2'], hints: { forZones: [], forNodes: null } },
      { addresses: ['10.0.0.3'], hints: { forZones: 'a' } },
    ];
    const state = { ready: true, serving: true, terminating: false };
    expect(rowOf(slice({ endpoints }))).toMatchObject({
      endpoints: [
        { address: '10.0.0.1', ...state, zoneHints: ['a', 'b'], nodeHints: ['n1'] },
        { address: '10.0.0.2', ...state },
      ],
    });
    expect(problemsOf(slice({ endpoints }))).toEqual(['EndpointSlice default/web-1 endpoints[2].hints.forZones: must be a list, is "a"']);
  });

  test('an EndpointSlice of IPv6, without endpoints, is valid', () => {
    const endpoints = [{ addresses: ['FD00::0001'] }];
    expect(rowOf(slice({ addressType: 'IPv6', endpoints }))).toMatchObject({ family: 'IPv6', endpoints: [{ address: 'fd00::1' }] });
    expect(rowOf(slice({ endpoints: null }))).toMatchObject({ endpoints: [] });
  });

  test('an invalid port of an EndpointSlice is ignored and reported, and the others are used', () => {
    const raw = slice({
      ports: [
        { name: 'a', port: 0 },
        { name: 'b', port: 70000 },
        { name: 'c', port: null },
        { name: null, port: 4 },
        { name: 'd' },
        { name: 'e', port: 5, protocol: 'ICMP' },
        { name: 'f', port: 6 },
        { name: 'f', port: 7 },
      ],
    });
    expect(rowOf(raw)).toMatchObject({ ports: [{ name: 'f', port: 6 }] });
    expect(problemsOf(raw)).toEqual([
      'EndpointSlice default/web-1 ports[0].port: must be 1..65535, is 0',
      'EndpointSlice default/web-1 ports[1].port: must be 1..65535, is 70000',
      'EndpointSlice default/web-1 ports[2].port: must be 1..65535, is null',
      'EndpointSlice default/web-1 ports[3].name: must be a string, is null',
      'EndpointSlice default/web-1 ports[4].port: must be 1..65535, is missing',
      'EndpointSlice default/web-1 ports[5].protocol: must be TCP, UDP or SCTP, is "ICMP"',
      'EndpointSlice default/web-1 ports[7].name: must be unique, "f" is also the name of ports[6]',
    ]);
  });

  test('an invalid endpoint of an EndpointSlice is ignored and reported, and the others are used', () => {
    const raw = slice({
      endpoints: [
        {},
        { addresses: [] },
        { addresses: ['x'] },
        { addresses: ['fd00::1'] },
        { addresses: ['10.0.0.1'], conditions: { ready: 'yes' } },
        7,
        { addresses: ['10.0.0.2', 'x'] },
      ],
    });
    expect(rowOf(raw)).toMatchObject({ endpoints: [{ address: '10.0.0.2' }] });
    expect(problemsOf(raw)).toEqual([
      'EndpointSlice default/web-1 endpoints[0].addresses: is empty: the endpoint is ignored',
      'EndpointSlice default/web-1 endpoints[1].addresses: is empty: the endpoint is ignored',
      'EndpointSlice default/web-1 endpoints[2].addresses[0]: must be an IPv4 address, is "x"',
      'EndpointSlice default/web-1 endpoints[3].addresses[0]: must be an IPv4 address, is "fd00::1"',
      'EndpointSlice default/web-1 endpoints[4].conditions.ready: must be true or false, is "yes"',
      'EndpointSlice default/web-1 endpoints[5]: must be an object, is 7',
    ]);
  });

  test.for([{ ports: [] }, { ports: null }, { ports: undefined }])(
    'an EndpointSlice without ports is ignored and reported: $ports',
    ({ ports }) => {
      const endpoints = [{ addresses: ['10.0.0.1'] }];
      expect(rowOf(slice({ ports }))).toBeUndefined();
      expect(problemsOf(slice({ ports, endpoints }))).toEqual(['EndpointSlice default/web-1 ports: is empty: the slice is ignored']);
      // The EndpointSlice controller writes a slice without ports for a Service without endpoints.
      expect(problemsOf(slice({ ports, endpoints: [] }))).toEqual([]);
    },
  );

  test.for([
    { name: 'FQDN', raw: slice({ addressType: 'FQDN', endpoints: [{ addresses: ['a.b'] }] }) },
    { name: 'no service-name label', raw: slice({}, {}) },
    { name: 'empty service-name label', raw: slice({}, { 'kubernetes.io/service-name': '' }) },
    {
      name: 'of a headless Service',
      raw: slice({ ports: [] }, { 'kubernetes.io/service-name': 'web', 'service.kubernetes.io/headless': '' }),
    },
  ])('an EndpointSlice is ignored without a problem: $name', ({ raw }) => {
    expect(convertObject(raw)).toEqual({ kind: 'EndpointSlice', key: 'default/web-1', row: undefined, problems: [] });
  });

  test.for([
    { field: 'addressType', raw: slice({ addressType: 'IP' }), reason: 'must be IPv4, IPv6 or FQDN, is "IP"' },
    { field: 'addressType', raw: slice({ addressType: undefined }), reason: 'must be IPv4, IPv6 or FQDN, is missing' },
    { field: 'endpoints', raw: slice({ endpoints: 'none' }), reason: 'must be a list, is "none"' },
    {
      field: 'metadata.labels[kubernetes.io/service-name]',
      raw: slice({}, { 'kubernetes.io/service-name': 5 }),
      reason: 'must be a string, is 5',
    },
  ])('an EndpointSlice is invalid: $field $reason', ({ raw, field, reason }) => {
    expect(rejectionOf(raw)).toMatchObject({ object: 'default/web-1', field, message: `EndpointSlice default/web-1 ${field}: ${reason}` });
  });
});

describe('Node', () => {
  const node = (addresses: unknown, labels: object = {}) => ({ kind: 'Node', metadata: { name: 'n1', labels }, status: { addresses } });

  test('a Node is converted to a row with its IP addresses and labels', () => {
    const addresses = [
      { type: 'InternalIP', address: '192.168.0.1' },
      { type: 'Hostname', address: 'n1' },
      { type: 'InternalIP', address: 'FD00::1' },
      { type: 'ExternalIP', address: '192.168.0.1' },
    ];
    const labels = { 'topology.kubernetes.io/zone': 'a' };
    const row = nodeRow('n1', { addresses: ['192.168.0.1', 'fd00::1'], labels });
    expect(convertObject(node(addresses, labels))).toEqual({ kind: 'Node', key: 'n1', problems: [], row });
  });

  test('an invalid address of a Node is ignored and reported', () => {
    expect(problemsOf(node([{ type: 'InternalIP', address: 'n1' }]))).toEqual([
      'Node n1 status.addresses[0].address: must be an IP address, is "n1"',
    ]);
    expect(rowOf({ kind: 'Node', metadata: { name: 'n1' } })).toEqual(nodeRow('n1'));
  });

  test('internal addresses of a Node come before external ones, and its pod CIDRs are canonical', () => {
    const addresses = [
      { type: 'ExternalIP', address: '192.0.2.1' },
      { type: 'InternalIP', address: '192.168.0.1' },
    ];
    expect(rowOf({ ...node(addresses), spec: { podCIDR: '10.244.1.7/24' } })).toEqual(
      nodeRow('n1', { addresses: ['192.168.0.1', '192.0.2.1'], podCIDRs: ['10.244.1.0/24'] }),
    );
    const raw = { ...node([]), spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'x', 'fd00:1::/64'] } };
    expect(rowOf(raw)).toEqual(nodeRow('n1', { podCIDRs: ['10.244.1.0/24', 'fd00:1::/64'] }));
    expect(problemsOf(raw)).toEqual(['Node n1 spec.podCIDRs[1]: must be a CIDR, is "x": the entry is ignored']);
  });

  test.for([
    { name: 'no taint', raw: {}, want: false },
    { name: 'another taint', raw: { spec: { taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }] } }, want: false },
    { name: "the autoscaler's taint", raw: { spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'X' }] } }, want: true },
    { name: 'a deletion timestamp', raw: { metadata: { name: 'n1', deletionTimestamp: '2025-01-01T00:00:00Z' } }, want: true },
  ])('12: isLeaving of a Node with $name is $want', ({ raw, want }) => {
    expect(rowOf({ ...node([]), ...raw })).toMatchObject({ isLeaving: want });
  });

  test('the labels of a Node must be strings', () => {
    expect(rejectionOf(node([], { zone: 1 })).message).toBe('Node n1 metadata.labels.zone: must be a string, is 1');
  });
});

describe('ServiceCIDR', () => {
  const cidrs = (list: unknown) => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'ServiceCIDR',
    metadata: { name: 'kubernetes' },
    spec: { cidrs: list },
  });

  test('a ServiceCIDR is converted to a row with canonical CIDRs; an invalid CIDR is reported', () => {
    const raw = cidrs(['10.96.0.0/12', 'FD00:96::1/108', '10.96.0.0']);
    expect(convertObject(raw)).toMatchObject({
      ...{ kind: 'ServiceCIDR', key: 'kubernetes' },
      row: { name: 'kubernetes', cidrs: ['10.96.0.0/12', 'fd00:96::/108'] },
    });
    expect(problemsOf(raw)).toEqual(['ServiceCIDR kubernetes spec.cidrs[2]: must be a CIDR, is "10.96.0.0": the entry is ignored']);
    expect(rejectionOf(cidrs('10.96.0.0/12')).field).toBe('spec.cidrs');
  });
});

describe('any object', () => {
  test.for([
    { name: 'another kind', raw: { kind: 'Deployment', metadata: { name: 'web', namespace: 'a' } }, ignored: 'Deployment' },
    {
      name: 'the kind in another group',
      raw: { ...service({}), apiVersion: 'serving.knative.dev/v1' },
      ignored: 'Service of serving.knative.dev/v1',
    },
    { name: 'the name of an inherited property', raw: { kind: 'constructor' }, ignored: 'constructor' },
  ])('an object of another kind is ignored: $name', ({ raw, ignored }) => {
    expect(convertObject(raw)).toEqual({ kind: 'unknown', problems: [], ignored });
  });

  test('an object of a known kind with another version is a problem and not an error', () => {
    const raw = { ...service({}), apiVersion: 'v2' };
    expect(rowOf(raw)).toBe('unknown kind');
    expect(problemsOf(raw)).toEqual(['Service default/web apiVersion: must be v1, is "v2"']);
  });

  test.for([
    { raw: 'text', want: ': must be an object, is "text"' },
    { raw: null, want: ': must be an object, is null' },
    { raw: [1], want: ': must be an object, is [1]' },
    { raw: {}, want: 'kind: must be a string, is missing' },
    { raw: { kind: 'Service' }, want: 'Service metadata: must be an object, is missing' },
    { raw: { kind: 'Service', metadata: {} }, want: 'Service metadata.name: must be a name, is missing' },
    { raw: { kind: 'Service', metadata: { name: 7 } }, want: 'Service metadata.name: must be a name, is 7' },
    {
      raw: { kind: 'Service', metadata: { name: 'a/b' } },
      want: 'Service default/a/b metadata.name: must be a name of lower case letters, digits, "-" and ".", is "a/b"',
    },
    {
      raw: { kind: 'Service', metadata: { name: 'a', namespace: 'B' } },
      want: 'Service B/a metadata.namespace: must be a name of lower case letters, digits and "-", is "B"',
    },
    {
      raw: { kind: 'Service', metadata: { name: 'a', labels: 'x' } },
      want: 'Service default/a metadata.labels: must be an object, is "x"',
    },
  ])('an object without a valid identity causes an error: $want', ({ raw, want }) => {
    expect(rejectionOf(raw).message).toBe(want);
  });

  test('a long value is shortened in the message', () => {
    expect(rejectionOf(service({ clusterIP: 'x'.repeat(1000) })).message.length).toBeLessThan(200);
  });
});

test('a field path is written in the notation of Kubernetes, and parsed', () => {
  const path = ['metadata', 'labels', 'kubernetes.io/service-name', 0, 'a-b'];
  expect(fieldText(path)).toBe('metadata.labels[kubernetes.io/service-name][0].a-b');
  expect(fieldPath(fieldText(path))).toEqual(path);
});
