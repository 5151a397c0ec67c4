// SPDX-License-Identifier: Apache-2.0
// Packet cases of test/README.md, 7, 8 and 14: usable endpoints, EndpointSlices, IP families and invalid data. Data only;
// cases.ts collects them.
import type { EndpointSlice, SliceEndpoint } from '../../../daemon/model/endpoint-slice.ts';
import { endpointRow, portRow, serviceRow, slicePortRow, sliceRow } from '../builders.ts';
import { type Cluster, dnat, drop, masqueraded, none, reject, type SemanticsCase, sends, thisNode } from './case.ts';

const clusterIP = '10.96.0.10:80/TCP';
const externalIP = '192.0.2.1:80/TCP';

const at = (n: number): string => `10.244.9.${n}:8080`;
const endpoint = (n: number, fields: Partial<SliceEndpoint> = {}): SliceEndpoint => endpointRow(`10.244.9.${n}`, fields);
const here = { nodeName: 'node-1' };
const there = { nodeName: 'node-2' };
const unready = { ready: false };
const draining = { ready: false, terminating: true };
const dying = { ready: false, serving: false, terminating: true };
const zone = (...zoneHints: string[]): Partial<SliceEndpoint> => ({ zoneHints });
const node = (...nodeHints: string[]): Partial<SliceEndpoint> => ({ nodeHints });

const clusterWith = (endpoints: readonly SliceEndpoint[], fields: Partial<Cluster> = {}): Cluster => ({
  services: [serviceRow({ externalIPs: ['192.0.2.1'], externalPolicy: 'Local' })],
  slices: [sliceRow({ endpoints })],
  ...fields,
});
/**
 * A case in which a pod uses policy Cluster and must reach one of `cluster`. If `local` is given, an outside client uses policy Local and
 * must reach one of `local`.
 */
const usable = (name: string, cluster: Cluster, wanted: { readonly cluster: number[]; readonly local?: number[] }): SemanticsCase => {
  const { cluster: all, local } = wanted;
  const packets = [sends('pod', clusterIP, all.length === 0 ? reject : dnat(...all.map(at)))];
  if (local !== undefined) packets.push(sends('outside', externalIP, local.length === 0 ? drop : dnat(...local.map(at))));
  return { name: `7 ${name}`, cluster, packets };
};

const usableCases: SemanticsCase[] = [
  usable('conditions: absent conditions mean ready, serving and not terminating', clusterWith([endpoint(1)]), { cluster: [1] }),
  usable(
    'local: nodeName decides; an endpoint without nodeName is never local',
    clusterWith([endpoint(1, here), endpoint(2, there), endpoint(3)]),
    {
      cluster: [1, 2, 3],
      local: [1],
    },
  ),
  usable(
    '1: every ready endpoint has node hints and one names this node',
    clusterWith([endpoint(1, node('node-1')), endpoint(2, node('node-2'))]),
    {
      cluster: [1],
    },
  ),
  usable(
    '1: node hints take precedence over zone hints',
    clusterWith([endpoint(1, { ...node('node-1'), ...zone('b') }), endpoint(2, { ...node('node-2'), ...zone('a') })]),
    { cluster: [1] },
  ),
  usable(
    '1: no node hint names this node: zone hints are used',
    clusterWith([endpoint(1, { ...node('node-3'), ...zone('a') }), endpoint(2, { ...node('node-2'), ...zone('b') })]),
    { cluster: [1] },
  ),
  usable('1: not every ready endpoint has node hints: hints are ignored', clusterWith([endpoint(1, node('node-1')), endpoint(2)]), {
    cluster: [1, 2],
  }),
  usable(
    "1: every ready endpoint has zone hints and one names this node's zone",
    clusterWith([endpoint(1, zone('a', 'c')), endpoint(2, zone('b'))]),
    {
      cluster: [1],
    },
  ),
  usable("1: no zone hint names this node's zone: hints are ignored", clusterWith([endpoint(1, zone('b')), endpoint(2, zone('c'))]), {
    cluster: [1, 2],
  }),
  usable(
    '3: if no endpoint is ready, all endpoints that are serving while terminating are used, in any zone',
    clusterWith([endpoint(1, { ...draining, ...zone('a') }), endpoint(2, { ...draining, ...zone('b') }), endpoint(3, dying)]),
    { cluster: [1, 2] },
  ),
  usable('Local: ready local endpoints', clusterWith([endpoint(1, here), endpoint(2, { ...here, ...draining }), endpoint(3, there)]), {
    cluster: [1, 3],
    local: [1],
  }),
  usable(
    'Local: if no local endpoint is ready, the local terminating ones are used, even if remote endpoints are ready',
    clusterWith([endpoint(1, { ...here, ...draining }), endpoint(2, there)]),
    { cluster: [2], local: [1] },
  ),
  usable('Local and Cluster fall back independently', clusterWith([endpoint(1, here), endpoint(2, { ...there, ...draining })]), {
    cluster: [1],
    local: [1],
  }),
  usable(
    'an endpoint that is serving but neither ready nor terminating is never used',
    clusterWith([endpoint(1, { ...here, ...unready })]),
    { cluster: [] },
  ),
  usable('an endpoint that is terminating and not serving is never used', clusterWith([endpoint(1, { ...here, ...dying })]), {
    cluster: [],
  }),
  usable(
    'a ready endpoint in another zone is preferred to a terminating one in this zone',
    clusterWith([endpoint(1, { ...draining, ...zone('a') }), endpoint(2, zone('b'))]),
    { cluster: [2] },
  ),
  usable(
    'an unready endpoint without hints does not disable topology',
    clusterWith([endpoint(1, zone('a')), endpoint(2, zone('b')), endpoint(3, unready)]),
    {
      cluster: [1],
    },
  ),
  usable('a ready endpoint without hints disables topology', clusterWith([endpoint(1, zone('a')), endpoint(2, zone('b')), endpoint(3)]), {
    cluster: [1, 2, 3],
  }),
  usable(
    'a node without zone label has no zone: zone hints are ignored',
    clusterWith([endpoint(1, zone('a')), endpoint(2, zone('b'))], { node: { ...thisNode, labels: {} } }),
    {
      cluster: [1, 2],
    },
  ),
  usable(
    'publishNotReadyAddresses: an endpoint with the condition ready is ready, even while it is terminating',
    clusterWith([endpoint(1, { ...here, terminating: true, serving: false })]),
    {
      cluster: [1],
      local: [1],
    },
  ),
];

const slices = (...list: EndpointSlice[]): Cluster => ({ services: [serviceRow()], slices: list });
const raw = (fields: object, labels: object = { 'kubernetes.io/service-name': 'web' }): object => ({
  ...{ kind: 'EndpointSlice', metadata: { name: 'web-1', labels }, addressType: 'IPv4' },
  ...{ ports: [{ name: '', port: 8080 }], endpoints: [{ addresses: ['10.244.9.1'] }] },
  ...fields,
});
const rawCase = (name: string, slice: object, ...candidates: string[]): SemanticsCase => ({
  name: `8.${name}`,
  cluster: { services: [serviceRow()], objects: [slice] },
  packets: [sends('pod', clusterIP, candidates.length === 0 ? reject : dnat(...candidates))],
});

const sliceCases: SemanticsCase[] = [
  {
    name: '8.1: all slices of the Service are used; slices of other names and namespaces are not',
    cluster: slices(
      sliceRow({ name: 'a', endpoints: [endpoint(1)] }),
      sliceRow({ name: 'b', endpoints: [endpoint(2)] }),
      sliceRow({ name: 'c', service: 'other', endpoints: [endpoint(3)] }),
      sliceRow({ name: 'd', namespace: 'shop', endpoints: [endpoint(4)] }),
    ),
    packets: [sends('pod', clusterIP, dnat(at(1), at(2)))],
  },
  rawCase('1: a slice without the label is ignored', raw({}, {})),
  rawCase('1: a slice of type FQDN is ignored', raw({ addressType: 'FQDN', endpoints: [{ addresses: ['a.b'] }] })),
  {
    name: '8.2: slices of the other family are ignored',
    cluster: slices(sliceRow({ family: 'IPv6', endpoints: [endpointRow('fd00::1')] })),
    packets: [sends('pod', clusterIP, reject)],
  },
  {
    name: '8.3: ports match by name and protocol, not by number',
    cluster: {
      services: [serviceRow({ ports: [portRow({ name: 'http' })] })],
      slices: [
        sliceRow({ name: 'a', ports: [slicePortRow({ name: 'http', port: 9090 })], endpoints: [endpoint(1)] }),
        sliceRow({ name: 'b', ports: [slicePortRow({ name: 'https', port: 80 })], endpoints: [endpoint(2)] }),
        sliceRow({ name: 'c', ports: [slicePortRow({ name: 'http', protocol: 'UDP', port: 80 })], endpoints: [endpoint(3)] }),
      ],
    },
    packets: [sends('pod', clusterIP, dnat('10.244.9.1:9090'))],
  },
  rawCase(
    '3: a port without name is skipped, the other ports are used',
    raw({
      ports: [
        { name: null, port: 1 },
        { name: '', port: 8080 },
      ],
    }),
    at(1),
  ),
  rawCase(
    '3: a port with the number null or 0 is skipped',
    raw({
      ports: [
        { name: '', port: null },
        { name: '', port: 0 },
      ],
    }),
  ),
  rawCase('3: an endpoint without addresses is skipped', raw({ endpoints: [{}, { addresses: [] }, { addresses: ['10.244.9.2'] }] }), at(2)),
  rawCase('4: only addresses[0] is used', raw({ endpoints: [{ addresses: ['10.244.9.1', '10.244.9.2'] }] }), at(1)),
  {
    name: '8.5: an address:port in two slices is one backend; a copy that is not terminating takes precedence',
    cluster: slices(
      sliceRow({ name: 'a', endpoints: [endpoint(1), endpoint(2, dying)] }),
      sliceRow({ name: 'b', endpoints: [endpoint(1), endpoint(2)] }),
    ),
    packets: [sends('pod', clusterIP, dnat(at(1), at(2)))],
  },
  {
    name: '8.7: slices may have different port numbers for the same port name',
    cluster: slices(
      sliceRow({ name: 'a', endpoints: [endpoint(1)] }),
      sliceRow({ name: 'b', ports: [slicePortRow({ port: 9090 })], endpoints: [endpoint(2)] }),
    ),
    packets: [sends('pod', clusterIP, dnat(at(1), '10.244.9.2:9090'))],
  },
  { name: '8.8: a Service without slices rejects', cluster: slices(), packets: [sends('pod', clusterIP, reject)] },
  {
    name: '8.9: Endpoints objects are not read',
    cluster: {
      services: [serviceRow()],
      objects: [
        { kind: 'Endpoints', metadata: { name: 'web' }, subsets: [{ addresses: [{ ip: '10.244.9.1' }], ports: [{ port: 8080 }] }] },
      ],
    },
    packets: [sends('pod', clusterIP, reject)],
  },
];

const service = (spec: object, status: object = {}): object => ({
  ...{ kind: 'Service', metadata: { name: 'web' }, status },
  spec: { clusterIP: '10.96.0.10', ports: [{ port: 80 }], ...spec },
});
const six = raw({ addressType: 'IPv6', endpoints: [{ addresses: ['fd00:244:0:9::1'] }] }, { 'kubernetes.io/service-name': 'web' });
const sixth = { ...six, metadata: { name: 'web-6', labels: { 'kubernetes.io/service-name': 'web' } } };
const at6 = '[fd00:244:0:9::1]:8080';
const dual = { clusterIPs: ['10.96.0.10', 'fd00:96::a'], ipFamilies: ['IPv4', 'IPv6'] };

const families: SemanticsCase[] = [
  {
    name: '14: dual stack: each family has its own backends',
    cluster: { objects: [service(dual), raw({}), sixth] },
    packets: [sends('pod', clusterIP, dnat(at(1))), sends('pod6', '[fd00:96::a]:80/TCP', dnat(at6))],
  },
  {
    name: '14: the entries of clusterIPs and ipFamilies belong together by index',
    cluster: {
      objects: [
        service({ clusterIP: 'fd00:96::a', clusterIPs: ['fd00:96::a', '10.96.0.10'], ipFamilies: ['IPv6', 'IPv4'] }),
        raw({}),
        sixth,
      ],
    },
    packets: [sends('pod', clusterIP, dnat(at(1))), sends('pod6', '[fd00:96::a]:80/TCP', dnat(at6))],
  },
  {
    name: '14: without ipFamilies only clusterIP is used',
    cluster: { objects: [service({ clusterIPs: ['10.96.0.10', 'fd00:96::a'] }), raw({}), sixth] },
    packets: [sends('pod', clusterIP, dnat(at(1))), sends('pod6', '[fd00:96::a]:80/TCP', none)],
  },
  {
    name: '14: external IPs, load balancer addresses and source ranges are split by family; the NodePort is shared',
    cluster: {
      objects: [
        service(
          {
            ...{ ...dual, type: 'LoadBalancer', ports: [{ port: 80, nodePort: 30080 }] },
            ...{ externalIPs: ['192.0.2.1', '2001:db8::1'], loadBalancerSourceRanges: ['198.51.100.0/24', 'fd00::/8'] },
          },
          { loadBalancer: { ingress: [{ ip: '203.0.113.5' }, { ip: '2001:db8::5' }] } },
        ),
        raw({}),
        sixth,
      ],
    },
    packets: [
      sends('outside', externalIP, masqueraded(at(1))),
      sends('outside6', '[2001:db8::1]:80/TCP', masqueraded(at6)),
      sends('outside', '203.0.113.5:80/TCP', masqueraded(at(1))),
      sends('outside6', '[2001:db8::5]:80/TCP', drop),
      sends('pod6', '[2001:db8::5]:80/TCP', masqueraded(at6)),
      sends('outside', '192.168.0.1:30080/TCP', masqueraded(at(1))),
      sends('outside6', '[fd00:1::1]:30080/TCP', masqueraded(at6)),
    ],
  },
  {
    name: '14: malformed external IPs are skipped; leading zeros are decimal, IPv6 addresses are compared by value',
    cluster: { objects: [service({ ...dual, externalIPs: ['x', '172.030.000.041', '2001:DB8:0::0001'] }), raw({}), sixth] },
    packets: [sends('outside', '172.30.0.41:80/TCP', masqueraded(at(1))), sends('outside6', '[2001:db8::1]:80/TCP', masqueraded(at6))],
  },
  {
    name: '14: source ranges are converted to canonical form',
    cluster: {
      objects: [
        service(
          { type: 'LoadBalancer', loadBalancerSourceRanges: ['198.51.100.000/025'] },
          { loadBalancer: { ingress: [{ ip: '203.0.113.005' }] } },
        ),
        raw({}),
      ],
    },
    packets: [
      sends('outside', '203.0.113.5:80/TCP', masqueraded(at(1))),
      sends({ ip: '198.51.100.128', from: 'external' }, '203.0.113.5:80/TCP', drop),
    ],
  },
  {
    name: '14: sessionAffinity ClientIP without sessionAffinityConfig is accepted',
    cluster: { objects: [service({ sessionAffinity: 'ClientIP' }), raw({})] },
    packets: [sends('pod', clusterIP, dnat(at(1)))],
  },
];

export const endpointCases: readonly SemanticsCase[] = [...usableCases, ...sliceCases, ...families];
