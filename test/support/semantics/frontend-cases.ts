// SPDX-License-Identifier: Apache-2.0
// Packet cases of test/README.md, 1 to 4: handled Services, their frontends, precedence of contested frontends, source ranges.
// Data only; cases.ts collects them.
import { endpointRow, portRow, serviceRow, slicePortRow, sliceRow } from '../builders.ts';
import { type Cluster, dnat, drop, masqueraded, none, reject, type SemanticsCase, sends, thisNode } from './case.ts';

const local = '10.244.1.2:8080';
const remote = '10.244.2.2:8080';
const slice = sliceRow({
  endpoints: [endpointRow('10.244.1.2', { nodeName: 'node-1' }), endpointRow('10.244.2.2', { nodeName: 'node-2' })],
});
/** The slice of a second Service. Its backend differs, so that a case can tell which Service owns a frontend. */
const otherSlice = sliceRow({ name: 'other-1', service: 'other', endpoints: [endpointRow('10.244.2.3', { nodeName: 'node-2' })] });
const other = '10.244.2.3:8080';

const raw = (spec: object, metadata: object = {}, status: object = {}): object => ({
  ...{ kind: 'Service', metadata: { name: 'web', ...metadata }, status },
  spec: { clusterIP: '10.96.0.10', ports: [{ port: 80 }], ...spec },
});
const rawSlice = (labels: object = {}): object => ({
  ...{
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', labels: { 'kubernetes.io/service-name': 'web', ...labels } },
    addressType: 'IPv4',
  },
  ...{ ports: [{ name: '', port: 8080 }], endpoints: [{ addresses: ['10.244.1.2'], nodeName: 'node-1' }] },
});

const external = { externalIPs: ['192.0.2.1'], loadBalancerIPs: ['203.0.113.5'], ports: [portRow({ nodePort: 30080 })] };
const everyFrontend: Cluster = { services: [serviceRow({ type: 'LoadBalancer', ...external })], slices: [slice] };

const handled: SemanticsCase[] = [
  ...['service.kubernetes.io/headless', 'service.kubernetes.io/service-proxy-name'].flatMap((label): SemanticsCase[] => [
    {
      name: `1.1: a Service with the label ${label} is not handled`,
      cluster: { objects: [raw({}, { labels: { [label]: '' } }), rawSlice()] },
      packets: [sends('pod', '10.96.0.10:80/TCP', none)],
    },
    {
      name: `1.1: an EndpointSlice with the label ${label} is not used`,
      cluster: { objects: [raw({}), rawSlice({ [label]: 'x' })] },
      packets: [sends('pod', '10.96.0.10:80/TCP', reject)],
    },
  ]),
  {
    name: '1.3: a Service with clusterIP None has no frontends, even if other fields are set',
    cluster: { objects: [raw({ clusterIP: 'None', externalIPs: ['192.0.2.1'] }), rawSlice()] },
    packets: [sends('outside', '192.0.2.1:80/TCP', none)],
  },
  {
    name: '1.3: a Service without clusterIP has no frontends, even if other fields are set',
    cluster: { objects: [raw({ clusterIP: '', externalIPs: ['192.0.2.1'] }), rawSlice()] },
    packets: [sends('outside', '192.0.2.1:80/TCP', none)],
  },
  {
    name: '1.3: an ExternalName Service has no frontends, even with a clusterIP',
    cluster: { objects: [raw({ type: 'ExternalName', externalName: 'a.b' }), rawSlice()] },
    packets: [sends('pod', '10.96.0.10:80/TCP', none)],
  },
  {
    name: '1.4: a family without ClusterIP has no frontends',
    cluster: {
      services: [serviceRow({ externalIPs: ['192.0.2.1', '2001:db8::1'], ports: [portRow({ nodePort: 30080 })] })],
      slices: [slice],
    },
    packets: [
      sends('outside', '192.0.2.1:80/TCP', masqueraded(local, remote)),
      sends('outside6', '[2001:db8::1]:80/TCP', none),
      sends('outside6', '[fd00:1::1]:30080/TCP', none),
    ],
  },
  {
    name: '1.4: a Service without ports has no frontends',
    cluster: { services: [serviceRow({ ports: [] })], slices: [slice] },
    packets: [sends('pod', '10.96.0.10:80/TCP', none)],
  },
  {
    name: '1.5: type ClusterIP with a NodePort, an external IP and an ingress IP has these frontends',
    cluster: { ...everyFrontend, services: [serviceRow({ type: 'ClusterIP', ...external })] },
    packets: ['192.0.2.1:80/TCP', '203.0.113.5:80/TCP', '192.168.0.1:30080/TCP'].map((to) =>
      sends('outside', to, masqueraded(local, remote)),
    ),
  },
  {
    name: '1.6: loadBalancerClass, loadBalancerIP, annotations and selector are not read',
    cluster: {
      objects: [
        raw(
          { type: 'LoadBalancer', loadBalancerClass: 'a/b', loadBalancerIP: '203.0.113.9', selector: { app: 'x' } },
          { annotations: { 'service.kubernetes.io/topology-mode': 'Auto' } },
        ),
        rawSlice(),
      ],
    },
    packets: [sends('pod', '10.96.0.10:80/TCP', dnat(local)), sends('outside', '203.0.113.9:80/TCP', none)],
  },
];

const frontends: SemanticsCase[] = [
  { name: '2 row 1: ClusterIP', cluster: everyFrontend, packets: [sends('pod', '10.96.0.10:80/TCP', dnat(local, remote))] },
  { name: '2 row 2: external IP', cluster: everyFrontend, packets: [sends('outside', '192.0.2.1:80/TCP', masqueraded(local, remote))] },
  {
    name: '2 row 2: an external IP may be an address of the node',
    cluster: { ...everyFrontend, services: [serviceRow({ externalIPs: ['192.168.0.1'] })] },
    packets: [sends('outside', '192.168.0.1:80/TCP', masqueraded(local, remote))],
  },
  {
    name: '2 row 3: an ingress IP with ipMode VIP or unset is a frontend',
    cluster: {
      objects: [
        raw({ type: 'LoadBalancer' }, {}, { loadBalancer: { ingress: [{ ip: '203.0.113.5' }, { ip: '203.0.113.6', ipMode: 'VIP' }] } }),
        rawSlice(),
      ],
    },
    packets: [sends('outside', '203.0.113.5:80/TCP', masqueraded(local)), sends('outside', '203.0.113.6:80/TCP', masqueraded(local))],
  },
  {
    name: '2 row 4: an ingress IP with ipMode Proxy is no frontend',
    cluster: {
      objects: [raw({ type: 'LoadBalancer' }, {}, { loadBalancer: { ingress: [{ ip: '203.0.113.5', ipMode: 'Proxy' }] } }), rawSlice()],
    },
    packets: [sends('pod', '203.0.113.5:80/TCP', none)],
  },
  {
    name: '2 row 5: an ingress with only a hostname is no frontend',
    cluster: { objects: [raw({ type: 'LoadBalancer' }, {}, { loadBalancer: { ingress: [{ hostname: 'lb.example' }] } }), rawSlice()] },
    packets: [sends('pod', '10.96.0.10:80/TCP', dnat(local))],
  },
  {
    name: '2 row 6: a NodePort is served on the NodePort addresses, and only with its number',
    cluster: everyFrontend,
    packets: [sends('outside', '192.168.0.1:30080/TCP', masqueraded(local, remote)), sends('outside', '192.168.0.1:80/TCP', none)],
  },
  {
    name: '2: an external IP that is also a load balancer address is one frontend, with source ranges',
    cluster: {
      ...everyFrontend,
      services: [
        serviceRow({ type: 'LoadBalancer', externalIPs: ['203.0.113.5'], loadBalancerIPs: ['203.0.113.5'], sourceRanges: ['10.0.0.0/8'] }),
      ],
    },
    packets: [sends('outside', '203.0.113.5:80/TCP', drop)],
  },
  {
    name: '2: a client outside the cluster reaches the ClusterIP and is masqueraded',
    cluster: everyFrontend,
    packets: [sends('outside', '10.96.0.10:80/TCP', masqueraded(local, remote))],
  },
  {
    name: '2: each protocol has a frontend of its own, with its own target port',
    cluster: {
      services: [
        serviceRow({ ports: [portRow({ name: 'a' }), portRow({ name: 'b', protocol: 'UDP' }), portRow({ name: 'c', protocol: 'SCTP' })] }),
      ],
      slices: [
        sliceRow({
          ports: [
            slicePortRow({ name: 'a' }),
            slicePortRow({ name: 'b', protocol: 'UDP', port: 8081 }),
            slicePortRow({ name: 'c', protocol: 'SCTP', port: 8082 }),
          ],
          endpoints: [endpointRow('10.244.1.2')],
        }),
      ],
    },
    packets: [
      sends('pod', '10.96.0.10:80/TCP', dnat('10.244.1.2:8080')),
      sends('pod', '10.96.0.10:80/UDP', dnat('10.244.1.2:8081')),
      sends('pod', '10.96.0.10:80/SCTP', dnat('10.244.1.2:8082')),
    ],
  },
];

/** A NodePort Service of both families on a node that has secondary addresses. */
const nodePorts = (nodePortAddresses: 'all' | 'primary' | string[]): Cluster => ({
  services: [
    serviceRow({ type: 'NodePort', clusterIPs: { IPv4: '10.96.0.10', IPv6: 'fd00:96::a' }, ports: [portRow({ nodePort: 30080 })] }),
  ],
  slices: [slice, sliceRow({ name: 'web-6', family: 'IPv6', endpoints: [endpointRow('fd00:244:0:1::2')] })],
  localAddresses: ['10.0.0.1', 'fd00:9::1', '127.0.0.1', '::1'],
  settings: { nodePortAddresses },
});
const answers = (setting: 'all' | 'primary' | string[], served: readonly string[]): SemanticsCase['packets'] =>
  ['192.168.0.1', '10.0.0.1', '127.0.0.1', 'fd00:1::1', 'fd00:9::1', '::1'].map((address) => {
    const isV6 = address.includes(':');
    const want = isV6 ? masqueraded('[fd00:244:0:1::2]:8080') : masqueraded(local, remote);
    return sends(isV6 ? 'outside6' : 'outside', `${isV6 ? `[${address}]` : address}:30080/TCP`, served.includes(address) ? want : none);
  });
const nodePortCases: SemanticsCase[] = (
  [
    { name: 'a CIDR list', setting: ['10.0.0.0/8', 'fd00:9::/64'], served: ['10.0.0.1', 'fd00:9::1'] },
    {
      name: 'a family without CIDR in the list uses all addresses',
      setting: ['10.0.0.0/8'],
      served: ['10.0.0.1', 'fd00:1::1', 'fd00:9::1'],
    },
    {
      name: 'a zero CIDR means all addresses of its family and overrides the other CIDRs',
      setting: ['10.0.0.0/8', '0.0.0.0/0', 'fd00:9::/64'],
      served: ['192.168.0.1', '10.0.0.1', 'fd00:9::1'],
    },
    { name: 'primary', setting: 'primary', served: ['192.168.0.1', 'fd00:1::1'] },
    { name: 'all: every address except loopback addresses', setting: 'all', served: ['192.168.0.1', '10.0.0.1', 'fd00:1::1', 'fd00:9::1'] },
    { name: 'a loopback CIDR selects no address (localhostNodePorts is not supported)', setting: ['127.0.0.0/8', '::1/128'], served: [] },
  ] as const
).map(({ name, setting, served }) => {
  const given = typeof setting === 'string' ? setting : [...setting];
  return { name: `2 NodePort addresses: ${name}`, cluster: nodePorts(given), packets: answers(given, served) };
});

const claims = (fields: object): Cluster => ({
  services: [
    serviceRow({ externalIPs: ['192.0.2.1'], ...fields }),
    serviceRow({ name: 'other', created: 500, clusterIPs: { IPv4: '10.96.0.11' }, externalIPs: ['192.0.2.1'] }),
  ],
  slices: [slice, otherSlice],
});

const precedence: SemanticsCase[] = [
  {
    name: '3.1: an external IP that is a node address takes precedence over a NodePort with the same number, even of an older Service',
    cluster: {
      services: [
        serviceRow({ type: 'NodePort', created: 1, ports: [portRow({ nodePort: 30080 })] }),
        serviceRow({
          name: 'other',
          created: 900,
          clusterIPs: { IPv4: '10.96.0.11' },
          externalIPs: ['192.168.0.1'],
          ports: [portRow({ port: 30080 })],
        }),
      ],
      slices: [slice, otherSlice],
    },
    packets: [sends('outside', '192.168.0.1:30080/TCP', masqueraded(other)), sends('pod', '10.96.0.10:80/TCP', dnat(local, remote))],
  },
  {
    name: '3.2: a source outside of the source ranges is dropped, even if there are no endpoints',
    cluster: { services: [serviceRow({ type: 'LoadBalancer', loadBalancerIPs: ['203.0.113.5'], sourceRanges: ['10.0.0.0/8'] })] },
    packets: [sends('outside', '203.0.113.5:80/TCP', drop), sends('pod', '203.0.113.5:80/TCP', reject)],
  },
  {
    name: '3.3: the oldest Service owns a contested frontend',
    cluster: claims({}),
    packets: [sends('outside', '192.0.2.1:80/TCP', masqueraded(other))],
  },
  {
    name: '3.3: of two Services with equal age, the one with the smaller name owns a contested frontend',
    cluster: claims({ name: 'abc', created: 500 }),
    packets: [sends('outside', '192.0.2.1:80/TCP', reject)],
  },
  {
    name: '3.3: after the owner of a contested frontend is deleted, the next Service owns the frontend',
    cluster: { ...claims({}), services: claims({}).services?.slice(0, 1) ?? [] },
    packets: [sends('outside', '192.0.2.1:80/TCP', masqueraded(local, remote))],
  },
  {
    name: '3.4: one port number in two protocols; the port names select the endpoints',
    cluster: {
      services: [serviceRow({ ports: [portRow({ name: 'dns', protocol: 'UDP', port: 53 }), portRow({ name: 'dns-tcp', port: 53 })] })],
      slices: [sliceRow({ ports: [slicePortRow({ name: 'dns', protocol: 'UDP', port: 5353 })], endpoints: [endpointRow('10.244.1.2')] })],
    },
    packets: [sends('pod', '10.96.0.10:53/UDP', dnat('10.244.1.2:5353')), sends('pod', '10.96.0.10:53/TCP', reject)],
  },
  {
    name: "3.5: an external IP equal to another Service's ClusterIP has no special rule",
    cluster: {
      services: [
        serviceRow({ created: 1 }),
        serviceRow({ name: 'other', clusterIPs: { IPv4: '10.96.0.11' }, externalIPs: ['10.96.0.10'], ports: [portRow({ port: 81 })] }),
      ],
      slices: [slice, otherSlice],
    },
    packets: [sends('pod', '10.96.0.10:80/TCP', dnat(local, remote)), sends('pod', '10.96.0.10:81/TCP', masqueraded(other))],
  },
];

const ranged = (sourceRanges: readonly string[], fields: object = {}): Cluster => ({
  services: [serviceRow({ type: 'LoadBalancer', ...external, sourceRanges, ...fields })],
  slices: [slice],
});
const lb = '203.0.113.5:80/TCP';
const served = masqueraded(local, remote);
const sourceRanges: SemanticsCase[] = [
  {
    name: '4.1: source ranges do not apply to ClusterIPs, external IPs and NodePorts',
    cluster: ranged(['172.16.0.0/12']),
    packets: [
      sends('pod', '10.96.0.10:80/TCP', dnat(local, remote)),
      sends('outside', '192.0.2.1:80/TCP', served),
      sends('outside', '192.168.0.1:30080/TCP', served),
      sends('outside', lb, drop),
    ],
  },
  { name: '4.2: without source ranges, every source is admitted', cluster: ranged([]), packets: [sends('outside', lb, served)] },
  {
    name: '4.3: source ranges are trimmed and split by family; malformed ones are skipped',
    cluster: {
      objects: [
        raw(
          { type: 'LoadBalancer', loadBalancerSourceRanges: [' 198.51.100.0/24\n', 'x', 'fd00::/8'] },
          {},
          { loadBalancer: { ingress: [{ ip: '203.0.113.5' }] } },
        ),
        rawSlice(),
      ],
    },
    packets: [sends('outside', lb, masqueraded(local)), sends('pod', lb, drop)],
  },
  {
    name: "4.3: without a range of the packet's family, every source is admitted",
    cluster: ranged(['fd00::/8']),
    packets: [sends('outside', lb, served)],
  },
  {
    name: '4.4: source ranges apply to pods and the node too',
    cluster: ranged(['198.51.100.0/24', '10.244.1.9/32']),
    packets: [sends('outside', lb, served), sends('pod', lb, served), sends('remotePod', lb, drop), sends('node', lb, drop)],
  },
  {
    name: "4.5: if the node's primary address is admitted, the Service's own load balancer addresses are admitted",
    cluster: ranged(['192.168.0.0/24']),
    packets: [sends({ ip: '203.0.113.5', from: 'node' }, lb, served), sends('node', lb, served), sends('outside', lb, drop)],
  },
  {
    name: "4.5: if the node's primary address is not admitted, the Service's own load balancer addresses are not admitted",
    cluster: ranged(['10.0.0.0/8']),
    packets: [sends({ ip: '203.0.113.5', from: 'node' }, lb, drop)],
  },
  {
    name: "4.5: an admitted secondary address of the node does not admit the Service's own load balancer addresses",
    cluster: { ...ranged(['10.0.0.0/8']), node: { ...thisNode, addresses: [...thisNode.addresses, '10.0.0.1'] } },
    packets: [sends({ ip: '203.0.113.5', from: 'node' }, lb, drop), sends({ ip: '10.0.0.1', from: 'node' }, lb, served)],
  },
];

export const frontendCases: readonly SemanticsCase[] = [...handled, ...frontends, ...nodePortCases, ...precedence, ...sourceRanges];
