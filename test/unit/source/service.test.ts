// SPDX-License-Identifier: Apache-2.0
// Conversion of a Service: a row, or an error that names the field (test/README.md, 1, 2, 4 and 14).
import { describe, expect, test } from 'vitest';
import { convertObject } from '../../../daemon/source/objects.ts';
import { serviceRow } from '../../support/builders.ts';
import { problemsOf, rejectionOf, rowOf, serviceObject as service } from './convert-fixture.ts';

describe('Service', () => {
  const addresses = (count: number, prefix = ''): string[] => Array.from({ length: count }, (_, n) => `20.0.${n >> 8}.${n & 255}${prefix}`);
  const manyPorts = (count: number): object[] => Array.from({ length: count }, (_, n) => ({ name: `p${n}`, port: n + 1 }));

  test.for(['x'.repeat(64), 'HTTP', 'a\u001b[31m', 'a/b'])('with the port name %j is rejected', (name) => {
    const raw = service({ clusterIP: '10.96.0.10', ports: [{ name, port: 80 }] });
    expect(rejectionOf(raw).field).toBe('spec.ports[0].name');
  });

  // Each port has every address: 60 KB of YAML would give four million frontends.
  test.for([
    { what: 'external IPs', spec: { externalIPs: addresses(2000) }, status: {} },
    { what: 'load balancer addresses', spec: {}, status: { loadBalancer: { ingress: addresses(2000).map((ip) => ({ ip })) } } },
    { what: 'source ranges', spec: { loadBalancerSourceRanges: addresses(2000, '/32') }, status: {} },
  ])('a Service with more combinations of ports and $what than fit into the maps is rejected', ({ spec, status }) => {
    const raw = (count: number) => ({ ...service({ clusterIP: '10.96.0.10', ...spec, ports: manyPorts(count) }), status });
    const { field, message } = rejectionOf(raw(2000));
    expect(field).toBe('spec.ports');
    expect(message).toContain('must have at most 65536 combinations');
    expect(message).toContain('has 2000 ports and 2001 addresses and ranges');
    expect(problemsOf(raw(32))).toEqual([]);
  });

  test('a Service is converted to a row, and other fields and nulls are ignored', () => {
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
        type: 'NodePort',
        clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00::a' },
        ports: [
          { name: 'http', protocol: 'TCP', port: 80, nodePort: 30080 },
          { name: 'dns', protocol: 'UDP', port: 53, nodePort: 0 },
          { name: 'dns-tcp', protocol: 'TCP', port: 53, nodePort: 0 },
        ],
        ...{ externalIPs: [], loadBalancerIPs: [], sourceRanges: [], internalPolicy: 'Cluster', externalPolicy: 'Cluster' },
        ...{ affinitySeconds: 0, healthCheckNodePort: 0 },
      },
    });
  });

  test('a Service without namespace, creation time, apiVersion and ports is valid', () => {
    const raw = {
      kind: 'Service',
      metadata: { name: 'web', namespace: null, creationTimestamp: null },
      spec: { clusterIP: 'fd00::1', ports: null },
    };
    expect(rowOf(raw)).toEqual(serviceRow({ created: 0, clusterIPs: { IPv6: 'fd00::1' }, ports: [] }));
  });

  test.for([
    { name: 'one address, no lists', spec: { clusterIP: '10.0.0.1' }, want: { IPv4: '10.0.0.1' } },
    {
      name: 'two families in the order of ipFamilies',
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
      name: 'no families: the first address alone, as in kube-proxy',
      spec: { clusterIP: 'fd00::1', clusterIPs: ['fd00::1', '10.0.0.1'] },
      want: { IPv6: 'fd00::1' },
    },
  ])('cluster IPs by family: $name', ({ spec, want }) => {
    expect(rowOf(service(spec))).toEqual(serviceRow({ created: 0, ports: [], clusterIPs: want }));
  });

  const every = service(
    {
      ...{ type: 'LoadBalancer', clusterIP: '10.0.0.1', internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' },
      externalIPs: ['192.0.2.1', '192.0.2.001', 'FD00::1'],
      loadBalancerSourceRanges: [' 203.0.113.000/025\t', '10.1.2.3/8', 'fd00::1/64'],
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
      healthCheckNodePort: 32000,
    },
    {},
  );
  const ingress = [
    { ip: '192.0.2.10' },
    { ip: '192.0.2.11', ipMode: 'VIP' },
    { ip: '192.0.2.12', ipMode: 'Proxy' },
    { hostname: 'lb.example' },
    { ip: 'fd00::0a' },
  ];

  test('the row of a Service has all its addresses, ranges, policies and affinity', () => {
    expect(rowOf({ ...every, status: { loadBalancer: { ingress } } })).toEqual(
      serviceRow({
        ...{ created: 0, ports: [], clusterIPs: { IPv4: '10.0.0.1' }, type: 'LoadBalancer' },
        externalIPs: ['192.0.2.1', 'fd00::1'],
        loadBalancerIPs: ['192.0.2.10', '192.0.2.11', 'fd00::a'],
        sourceRanges: ['203.0.113.0/25', '10.0.0.0/8', 'fd00::/64'],
        ...{ internalPolicy: 'Local', externalPolicy: 'Local', affinitySeconds: 600, healthCheckNodePort: 32000 },
      }),
    );
  });

  test.for([
    { address: '127.0.0.1', is: 'a loopback address' },
    { address: '::1', is: 'a loopback address' },
    { address: '::ffff:127.0.0.1', is: 'a loopback address' },
    { address: '169.254.169.254', is: 'a link-local address' },
    { address: 'fe80::1', is: 'a link-local address' },
    { address: '224.0.0.1', is: 'a multicast address' },
    { address: 'ff02::1', is: 'a multicast address' },
    { address: '0.0.0.0', is: 'the unspecified address' },
    { address: '::', is: 'the unspecified address' },
    { address: '255.255.255.255', is: 'the broadcast address' },
  ])('14.8: $address as an external IP or load balancer address is ignored and reported, and the rest is used', ({ address, is }) => {
    const raw = {
      ...service({ type: 'LoadBalancer', clusterIP: '10.0.0.1', externalIPs: ['192.0.2.1', address] }),
      status: { loadBalancer: { ingress: [{ ip: address }, { ip: '192.0.2.9' }] } },
    };
    expect(rowOf(raw)).toMatchObject({ clusterIPs: { IPv4: '10.0.0.1' }, externalIPs: ['192.0.2.1'], loadBalancerIPs: ['192.0.2.9'] });
    expect(problemsOf(raw)).toEqual([
      `Service default/web spec.externalIPs[1]: must not be ${is}, is "${address}": the entry is ignored`,
      `Service default/web status.loadBalancer.ingress[0].ip: must not be ${is}, is "${address}": the entry is ignored`,
    ]);
    expect(rejectionOf(service({ clusterIP: address }))).toMatchObject({
      field: 'spec.clusterIP',
      message: `Service default/web spec.clusterIP: must not be ${is}, is "${address}"`,
    });
  });

  test('14: an invalid element of a list is ignored and reported, the rest of the object is used', () => {
    const raw = {
      ...service({
        ...{ type: 'LoadBalancer', clusterIP: '10.0.0.1' },
        externalIPs: ['x', 7, '192.0.2.1', '192.0.2.1/32'],
        loadBalancerSourceRanges: ['10.0.0.0', '10.0.0.0/33', null, 'fd00::/64', ''],
      }),
      status: { loadBalancer: { ingress: [{ hostname: 'a' }, { ip: 'y' }, { ip: 'z', ipMode: 'Proxy' }, { ip: '192.0.2.9' }] } },
    };
    expect(rowOf(raw)).toMatchObject({ externalIPs: ['192.0.2.1'], sourceRanges: ['fd00::/64'], loadBalancerIPs: ['192.0.2.9'] });
    expect(problemsOf(raw)).toEqual([
      'Service default/web spec.externalIPs[0]: must be an IP address, is "x": the entry is ignored',
      'Service default/web spec.externalIPs[1]: must be an IP address, is 7: the entry is ignored',
      'Service default/web spec.externalIPs[3]: must be an IP address, is "192.0.2.1/32": the entry is ignored',
      'Service default/web status.loadBalancer.ingress[1].ip: must be an IP address, is "y": the entry is ignored',
      'Service default/web spec.loadBalancerSourceRanges[0]: must be a CIDR, is "10.0.0.0": the entry is ignored',
      'Service default/web spec.loadBalancerSourceRanges[1]: must be a CIDR, is "10.0.0.0/33": the entry is ignored',
      'Service default/web spec.loadBalancerSourceRanges[2]: must be a CIDR, is null: the entry is ignored',
      'Service default/web spec.loadBalancerSourceRanges[4]: must be a CIDR, is "": the entry is ignored',
    ]);
  });

  test.for([
    { config: undefined, want: 10_800 },
    { config: null, want: 10_800 },
    { config: {}, want: 10_800 },
    { config: { clientIP: null }, want: 10_800 },
    { config: { clientIP: { timeoutSeconds: null } }, want: 10_800 },
    { config: { clientIP: { timeoutSeconds: 1 } }, want: 1 },
  ])('14: affinity ClientIP with the configuration $config has a timeout of $want s', ({ config, want }) => {
    const raw = service({ clusterIP: '10.0.0.1', sessionAffinity: 'ClientIP', sessionAffinityConfig: config });
    expect(rowOf(raw)).toMatchObject({ affinitySeconds: want });
  });

  test.for([
    { name: 'headless', raw: service({ clusterIP: 'None', clusterIPs: ['None'] }) },
    { name: 'ExternalName, even with an address', raw: service({ type: 'ExternalName', clusterIP: '10.0.0.1', externalName: 'a.b' }) },
    { name: 'label headless', raw: service({ clusterIP: '10.0.0.1' }, { labels: { 'service.kubernetes.io/headless': '' } }) },
    {
      name: 'label service-proxy-name',
      raw: service({ clusterIP: '10.0.0.1' }, { labels: { 'service.kubernetes.io/service-proxy-name': 'x' } }),
    },
  ])('a Service is ignored without a problem: $name', ({ raw }) => {
    expect(convertObject(raw)).toEqual({ kind: 'Service', key: 'default/web', row: undefined, problems: [] });
  });

  test('a Service without a cluster IP has no row, which is reported', () => {
    expect(rowOf(service({ ports: [{ port: 80 }] }))).toBeUndefined();
    expect(problemsOf(service({ clusterIP: '' }))).toEqual(['Service default/web spec.clusterIP: is missing: the Service is not served']);
  });

  test('a Service with an invalid creation time has a row, and the time is reported', () => {
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
      reason: 'must be an IPv6 address, as spec.ipFamilies requires, is "10.0.0.1"',
    },
    {
      field: 'spec.clusterIPs[1]',
      raw: service({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', 'x'] }),
      reason: 'must be an IP address, is "x"',
    },
    {
      field: 'spec.clusterIPs[1]',
      raw: service({ clusterIP: '10.0.0.1', clusterIPs: ['10.0.0.1', '10.0.0.2'], ipFamilies: ['IPv4', 'IPv4'] }),
      reason: 'is a second IPv4 address, the first is 10.0.0.1',
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
    { field: 'spec.ports[0].nodePort', raw: ports({ port: 1, nodePort: -1 }), reason: 'must be 0..65535, is -1' },
    {
      field: 'spec.type',
      raw: service({ clusterIP: '10.0.0.1', type: 'Anycast' }),
      reason: 'must be ClusterIP, NodePort, LoadBalancer or ExternalName, is "Anycast"',
    },
    {
      field: 'spec.externalTrafficPolicy',
      raw: service({ clusterIP: '10.0.0.1', externalTrafficPolicy: 'local' }),
      reason: 'must be Cluster or Local, is "local"',
    },
    {
      field: 'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
      raw: service({ clusterIP: '10.0.0.1', sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } }),
      reason: 'must be 1..86400, is 0',
    },
    {
      field: 'spec.externalIPs',
      raw: service({ clusterIP: '10.0.0.1', externalIPs: '192.0.2.1' }),
      reason: 'must be a list, is "192.0.2.1"',
    },
    {
      field: 'status.loadBalancer.ingress',
      raw: { ...service({ clusterIP: '10.0.0.1' }), status: { loadBalancer: { ingress: {} } } },
      reason: 'must be a list, is {}',
    },
    { field: 'spec', raw: { kind: 'Service', metadata: { name: 'web' } }, reason: 'must be an object, is missing' },
  ])('a Service is invalid: $field $reason', ({ raw, field, reason }) => {
    expect(rejectionOf(raw)).toMatchObject({
      kind: 'Service',
      object: 'default/web',
      field,
      message: `Service default/web ${field}: ${reason}`,
    });
  });
});
