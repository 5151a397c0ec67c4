// SPDX-License-Identifier: Apache-2.0
// One API object in, one row or one precise complaint out (kube-proxy-semantics.md, 1, 7, 8 and 14).
import { describe, expect, test } from 'vitest';
import { InvalidObjectError } from '../../daemon/errors.ts';
import { fieldPath, fieldText } from '../../daemon/source/fields.ts';
import { convertObject } from '../../daemon/source/objects.ts';

const service = (spec: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', ...metadata },
  spec,
});
const slice = (fields: object, labels: object = { 'kubernetes.io/service-name': 'web' }) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', labels },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  ...fields,
});

const rowOf = (raw: unknown): unknown => {
  const converted = convertObject(raw);
  return converted.kind === 'unknown' ? 'unknown kind' : converted.row;
};
const problemsOf = (raw: unknown): string[] => convertObject(raw).problems.map(({ message }) => message);

function rejectionOf(raw: unknown): InvalidObjectError {
  try {
    convertObject(raw);
  } catch (error) {
    if (error instanceof InvalidObjectError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('Service', () => {
  test('becomes a row of what we use; other fields and nulls do not disturb', () => {
    const raw = {
      ...service(
        {
          type: 'NodePort',
          clusterIP: '10.96.0.010',
          clusterIPs: ['10.96.0.10', 'FD00:0::A'],
          ipFamilies: ['IPv4', 'IPv6'],
          selector: { app: 'web' },
          ports: [
            { name: 'http', port: 80, targetPort: 'http', nodePort: 30080 },
            { name: 'dns', port: 53, protocol: 'UDP' },
            { name: 'dns-tcp', port: 53, protocol: 'TCP' },
          ],
        },
        { namespace: 'shop', creationTimestamp: '2024-01-01T00:00:00Z', labels: null, annotations: { a: 'b' } },
      ),
      status: { loadBalancer: {} },
    };
    expect(convertObject(raw)).toEqual({
      kind: 'Service',
      key: 'shop/web',
      problems: [],
      row: {
        namespace: 'shop',
        name: 'web',
        created: Date.UTC(2024, 0, 1),
        clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00::a' },
        ports: [
          { name: 'http', protocol: 'TCP', port: 80 },
          { name: 'dns', protocol: 'UDP', port: 53 },
          { name: 'dns-tcp', protocol: 'TCP', port: 53 },
        ],
      },
    });
  });

  test('without namespace, creation time, apiVersion and ports', () => {
    const raw = {
      kind: 'Service',
      metadata: { name: 'web', namespace: null, creationTimestamp: null },
      spec: { clusterIP: 'fd00::1', ports: null },
    };
    expect(rowOf(raw)).toEqual({ namespace: 'default', name: 'web', created: 0, clusterIPs: { IPv6: 'fd00::1' }, ports: [] });
  });

  test.for([
    { name: 'one address, no lists', spec: { clusterIP: '10.0.0.1' }, want: { IPv4: '10.0.0.1' } },
    {
      name: 'families decide the index',
      spec: { clusterIP: 'fd00::1', clusterIPs: ['fd00::1', '10.0.0.1'], ipFamilies: ['IPv6', 'IPv4'] },
      want: { IPv6: 'fd00::1', IPv4: '10.0.0.1' },
    },
    {
      name: 'a family without an address',
      spec: { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1'], ipFamilies: ['IPv4', 'IPv6'] },
      want: { IPv4: '10.0.0.1' },
    },
    {
      name: 'an address without a family',
      spec: { clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', 'fd00::1'], ipFamilies: ['IPv4'] },
      want: { IPv4: '10.0.0.1' },
    },
    {
      name: 'no families: addresses speak for themselves',
      spec: { clusterIP: 'fd00::1', clusterIPs: ['fd00::1', '10.0.0.1'] },
      want: { IPv6: 'fd00::1', IPv4: '10.0.0.1' },
    },
  ])('cluster IPs by family: $name', ({ spec, want }) => {
    expect(rowOf(service(spec))).toMatchObject({ clusterIPs: want });
  });

  test.for([
    { name: 'headless', raw: service({ clusterIP: 'None', clusterIPs: ['None'] }) },
    { name: 'ExternalName, even with an address', raw: service({ type: 'ExternalName', clusterIP: '10.0.0.1', externalName: 'a.b' }) },
    { name: 'label headless', raw: service({ clusterIP: '10.0.0.1' }, { labels: { 'service.kubernetes.io/headless': '' } }) },
    {
      name: 'label service-proxy-name',
      raw: service({ clusterIP: '10.0.0.1' }, { labels: { 'service.kubernetes.io/service-proxy-name': 'x' } }),
    },
  ])('is silently ignored: $name', ({ raw }) => {
    expect(convertObject(raw)).toEqual({ kind: 'Service', key: 'default/web', row: undefined, problems: [] });
  });

  test('without a cluster IP is not served, and says so', () => {
    expect(rowOf(service({ ports: [{ port: 80 }] }))).toBeUndefined();
    expect(problemsOf(service({ clusterIP: '' }))).toEqual(['Service default/web spec.clusterIP: is missing: the Service is not served']);
  });

  test('an unreadable creation time is reported and the row used', () => {
    const raw = service({ clusterIP: '10.0.0.1' }, { creationTimestamp: 'yesterday' });
    expect(rowOf(raw)).toMatchObject({ created: 0 });
    expect(problemsOf(raw)).toEqual(['Service default/web metadata.creationTimestamp: must be a time, is "yesterday"']);
  });

  const ports = (...list: unknown[]) => service({ clusterIP: '10.0.0.1', ports: list });
  test.for([
    { field: 'spec.clusterIP', raw: service({ clusterIP: '10.0.0.256' }), reason: 'must be an IP address, is "10.0.0.256"' },
    { field: 'spec.clusterIP', raw: service({ clusterIP: 10 }), reason: 'must be a string, is 10' },
    {
      field: 'spec.clusterIP',
      raw: service({ clusterIP: '10.0.0.1', ipFamilies: ['IPv6'] }),
      reason: 'must be of family IPv6 as spec.ipFamilies says, is "10.0.0.1"',
    },
    {
      field: 'spec.clusterIPs[1]',
      raw: service({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', 'x'] }),
      reason: 'must be an IP address, is "x"',
    },
    {
      field: 'spec.clusterIPs[1]',
      raw: service({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', '10.0.0.2'] }),
      reason: 'is a second IPv4 address beside 10.0.0.1',
    },
    {
      field: 'spec.clusterIPs[0]',
      raw: service({ clusterIP: '10.0.0.2', clusterIPs: ['10.0.0.1'] }),
      reason: 'must equal spec.clusterIP 10.0.0.2, is "10.0.0.1"',
    },
    {
      field: 'spec.ipFamilies[0]',
      raw: service({ clusterIP: '10.0.0.1', ipFamilies: ['ipv4'] }),
      reason: 'must be IPv4 or IPv6, is "ipv4"',
    },
    { field: 'spec.ports', raw: service({ clusterIP: '10.0.0.1', ports: { port: 80 } }), reason: 'must be a list, is {"port":80}' },
    { field: 'spec.ports[0]', raw: ports(80), reason: 'must be an object, is 80' },
    { field: 'spec.ports[0].port', raw: ports({ name: 'a' }), reason: 'must be 1..65535, is missing' },
    { field: 'spec.ports[0].port', raw: ports({ port: 0 }), reason: 'must be 1..65535, is 0' },
    { field: 'spec.ports[1].port', raw: ports({ name: 'a', port: 1 }, { name: 'b', port: 70000 }), reason: 'must be 1..65535, is 70000' },
    { field: 'spec.ports[0].port', raw: ports({ port: '80' }), reason: 'must be 1..65535, is "80"' },
    { field: 'spec.ports[0].port', raw: ports({ port: 80.5 }), reason: 'must be 1..65535, is 80.5' },
    { field: 'spec.ports[0].protocol', raw: ports({ port: 80, protocol: 'tcp' }), reason: 'must be TCP, UDP or SCTP, is "tcp"' },
    {
      field: 'spec.ports[1].name',
      raw: ports({ name: 'a', port: 1 }, { name: 'a', port: 2 }),
      reason: 'must be unique, "a" is also the name of spec.ports[0]',
    },
    { field: 'spec.ports[1].name', raw: ports({ port: 1 }, { port: 2 }), reason: 'must be unique, "" is also the name of spec.ports[0]' },
    {
      field: 'spec.ports[1].port',
      raw: ports({ name: 'a', port: 1 }, { name: 'b', port: 1 }),
      reason: 'must be unique, 1/TCP is also spec.ports[0]',
    },
    { field: 'spec', raw: { kind: 'Service', metadata: { name: 'web' } }, reason: 'must be an object, is missing' },
  ])('is rejected: $field $reason', ({ raw, field, reason }) => {
    expect(rejectionOf(raw)).toMatchObject({
      kind: 'Service',
      object: 'default/web',
      field,
      message: `Service default/web ${field}: ${reason}`,
    });
  });
});

describe('EndpointSlice', () => {
  test('becomes a row; conditions that are absent have their defaults', () => {
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

  test('an IPv6 slice; no endpoints at all is in order', () => {
    const endpoints = [{ addresses: ['FD00::0001'] }];
    expect(rowOf(slice({ addressType: 'IPv6', endpoints }))).toMatchObject({ family: 'IPv6', endpoints: [{ address: 'fd00::1' }] });
    expect(rowOf(slice({ endpoints: null }))).toMatchObject({ endpoints: [] });
  });

  test('a bad port is left out and named, the others are used', () => {
    const raw = slice({
      ports: [
        { name: 'a', port: 0 },
        { name: 'b', port: 70000 },
        { name: 'c', port: null },
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
      'EndpointSlice default/web-1 ports[3].port: must be 1..65535, is missing',
      'EndpointSlice default/web-1 ports[4].protocol: must be TCP, UDP or SCTP, is "ICMP"',
      'EndpointSlice default/web-1 ports[6].name: must be unique, "f" is also the name of ports[5]',
    ]);
  });

  test('a bad endpoint is left out and named, the others are used', () => {
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
      'EndpointSlice default/web-1 endpoints[0].addresses: is empty: the endpoint is left out',
      'EndpointSlice default/web-1 endpoints[1].addresses: is empty: the endpoint is left out',
      'EndpointSlice default/web-1 endpoints[2].addresses[0]: must be an IPv4 address, is "x"',
      'EndpointSlice default/web-1 endpoints[3].addresses[0]: must be an IPv4 address, is "fd00::1"',
      'EndpointSlice default/web-1 endpoints[4].conditions.ready: must be true or false, is "yes"',
      'EndpointSlice default/web-1 endpoints[5]: must be an object, is 7',
    ]);
  });

  test.for([{ ports: [] }, { ports: null }, { ports: undefined }])('without ports contributes nothing and says so: $ports', ({ ports }) => {
    expect(rowOf(slice({ ports }))).toBeUndefined();
    expect(problemsOf(slice({ ports }))).toEqual(['EndpointSlice default/web-1 ports: is empty: the slice contributes nothing']);
  });

  test.for([
    { name: 'FQDN', raw: slice({ addressType: 'FQDN', endpoints: [{ addresses: ['a.b'] }] }) },
    { name: 'no service-name label', raw: slice({}, {}) },
    { name: 'empty service-name label', raw: slice({}, { 'kubernetes.io/service-name': '' }) },
    {
      name: 'of a headless Service',
      raw: slice({ ports: [] }, { 'kubernetes.io/service-name': 'web', 'service.kubernetes.io/headless': '' }),
    },
  ])('is silently ignored: $name', ({ raw }) => {
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
  ])('is rejected: $field $reason', ({ raw, field, reason }) => {
    expect(rejectionOf(raw)).toMatchObject({ object: 'default/web-1', field, message: `EndpointSlice default/web-1 ${field}: ${reason}` });
  });
});

describe('Node', () => {
  const node = (addresses: unknown, labels: object = {}) => ({ kind: 'Node', metadata: { name: 'n1', labels }, status: { addresses } });

  test('becomes a row of its IPs and labels', () => {
    const addresses = [
      { type: 'InternalIP', address: '192.168.0.1' },
      { type: 'Hostname', address: 'n1' },
      { type: 'InternalIP', address: 'FD00::1' },
      { type: 'ExternalIP', address: '192.168.0.1' },
    ];
    const labels = { 'topology.kubernetes.io/zone': 'a' };
    const row = { name: 'n1', addresses: ['192.168.0.1', 'fd00::1'], labels };
    expect(convertObject(node(addresses, labels))).toEqual({ kind: 'Node', key: 'n1', problems: [], row });
  });

  test('a bad address is left out and named', () => {
    expect(problemsOf(node([{ type: 'InternalIP', address: 'n1' }]))).toEqual([
      'Node n1 status.addresses[0].address: must be an IP address, is "n1"',
    ]);
    expect(rowOf({ kind: 'Node', metadata: { name: 'n1' } })).toEqual({ name: 'n1', addresses: [], labels: {} });
  });

  test('labels must be strings', () => {
    expect(rejectionOf(node([], { zone: 1 })).message).toBe('Node n1 metadata.labels.zone: must be a string, is 1');
  });
});

describe('any object', () => {
  test.for([
    { name: 'another kind', raw: { kind: 'Servce', metadata: { name: 'web', namespace: 'a' } }, want: 'Servce a/web kind: unknown kind' },
    {
      name: 'the kind in another group',
      raw: { ...service({}), apiVersion: 'serving.knative.dev/v1' },
      want: 'Service default/web apiVersion: unknown kind: Service of v1 is known, not of "serving.knative.dev/v1"',
    },
    { name: 'a name like a property of objects', raw: { kind: 'constructor' }, want: 'constructor kind: unknown kind' },
  ])('of an unknown kind is a problem and no rejection: $name', ({ raw, want }) => {
    expect(rowOf(raw)).toBe('unknown kind');
    expect(problemsOf(raw)).toEqual([want]);
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
  ])('is rejected without a proper identity: $want', ({ raw, want }) => {
    expect(rejectionOf(raw).message).toBe(want);
  });

  test('a long value is cut in the message', () => {
    expect(rejectionOf(service({ clusterIP: 'x'.repeat(1000) })).message.length).toBeLessThan(200);
  });
});

test('a field path is written as Kubernetes writes it, and read back', () => {
  const path = ['metadata', 'labels', 'kubernetes.io/service-name', 0, 'a-b'];
  expect(fieldText(path)).toBe('metadata.labels[kubernetes.io/service-name][0].a-b');
  expect(fieldPath(fieldText(path))).toEqual(path);
});
