// SPDX-License-Identifier: Apache-2.0
// Packet cases of test/README.md, 5, 6 and 9: Services without usable backends, traffic policies, masquerading. In the names,
// iTP and eTP are internalTrafficPolicy and externalTrafficPolicy. Data only; cases.ts collects them.
import type { HostSettings } from '../../../daemon/model/host.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { endpointRow, portRow, serviceRow, sliceRow } from '../builders.ts';
import { type Cluster, dnat, drop, masqueraded, none, reject, type SemanticsCase, sends } from './case.ts';

const here = endpointRow('10.244.1.2', { nodeName: 'node-1' });
const there = endpointRow('10.244.2.2', { nodeName: 'node-2' });
const local = '10.244.1.2:8080';
const remote = '10.244.2.2:8080';

const clusterIP = '10.96.0.10:80/TCP';
const externalIP = '192.0.2.1:80/TCP';
const lbIP = '203.0.113.5:80/TCP';
const nodePort = '192.168.0.1:30080/TCP';
const externals = [externalIP, lbIP, nodePort];

const web = (fields: Partial<Service>, endpoints = [here, there], settings: Partial<HostSettings> = {}): Cluster => ({
  services: [
    serviceRow({
      ...{ type: 'LoadBalancer', externalIPs: ['192.0.2.1'], loadBalancerIPs: ['203.0.113.5'], ports: [portRow({ nodePort: 30080 })] },
      ...fields,
    }),
  ],
  slices: [sliceRow({ endpoints })],
  settings,
});
const bothLocal = { internalPolicy: 'Local', externalPolicy: 'Local' } as const;

const withoutBackends: SemanticsCase[] = [
  {
    name: '5 row 1: no usable endpoint anywhere',
    cluster: web(bothLocal, [endpointRow('10.244.1.2', { ready: false, nodeName: 'node-1' })]),
    packets: [clusterIP, ...externals].flatMap((to) => [sends('pod', to, reject), sends('node', to, reject), sends('outside', to, reject)]),
  },
  {
    name: '5 row 2: iTP Local drops if usable endpoints are only on other nodes; external frontends use eTP',
    cluster: web({ internalPolicy: 'Local' }, [there]),
    packets: [
      sends('pod', clusterIP, drop),
      sends('node', clusterIP, drop),
      ...externals.map((to) => sends('outside', to, masqueraded(remote))),
    ],
  },
  {
    name: '5 row 3: eTP Local drops if usable endpoints are only on other nodes; ClusterIPs use iTP, pods and the node are short-circuited',
    cluster: web({ externalPolicy: 'Local' }, [there]),
    packets: [
      sends('pod', clusterIP, dnat(remote)),
      ...externals.flatMap((to) => [sends('outside', to, drop), sends('pod', to, dnat(remote)), sends('node', to, masqueraded(remote))]),
    ],
  },
  {
    name: '5 row 4: a ClusterIP with another port or protocol rejects',
    cluster: web({}),
    packets: [
      sends('pod', '10.96.0.10:81/TCP', reject),
      sends('pod', '10.96.0.10:80/UDP', reject),
      sends('node', '10.96.0.10:81/TCP', reject),
      sends('outside', '10.96.0.10:80/SCTP', reject),
    ],
  },
  {
    name: '5 row 5: an address in a Service CIDR that no Service owns is dropped',
    cluster: { ...web({}), serviceCIDRs: ['10.96.0.0/16', 'fd00:96::/112'] },
    packets: [
      sends('pod', '10.96.0.11:80/TCP', drop),
      sends('outside', '10.96.255.255:1/UDP', drop),
      sends('pod6', '[fd00:96::1]:80/TCP', drop),
      sends('pod', '10.97.0.1:80/TCP', none),
      sends('pod', clusterIP, dnat(local, remote)),
    ],
  },
  {
    name: '5 row 5: an address that no Service owns is dropped in every Service CIDR, including the one of the setting',
    cluster: { ...web({}, [here, there], { serviceCidr: ['10.98.0.0/16'] }), serviceCIDRs: ['10.97.0.0/16'] },
    packets: [sends('pod', '10.98.0.1:80/TCP', drop), sends('pod', '10.97.0.1:80/TCP', drop)],
  },
  {
    name: '5 row 5: without a known Service CIDR nothing is dropped',
    cluster: web({}),
    packets: [sends('pod', '10.96.0.11:80/TCP', none)],
  },
  {
    name: '5 row 6: packets to another port of a load balancer address or external IP are untouched',
    cluster: web({}),
    packets: [sends('outside', '192.0.2.1:81/TCP', none), sends('outside', '203.0.113.5:80/UDP', none)],
  },
  {
    name: '5 row 7: packets to a NodePort number without Service are untouched',
    cluster: web({}),
    packets: [sends('outside', '192.168.0.1:30081/TCP', none), sends('node', '192.168.0.1:30080/UDP', none)],
  },
];

const policies: SemanticsCase[] = [
  {
    name: '6.1: iTP Local does not apply to external frontends',
    cluster: web({ internalPolicy: 'Local' }),
    packets: [sends('pod', clusterIP, dnat(local)), ...externals.map((to) => sends('pod', to, masqueraded(local, remote)))],
  },
  {
    name: '6.1: eTP Local does not apply to the ClusterIP',
    cluster: web({ externalPolicy: 'Local' }),
    packets: [sends('pod', clusterIP, dnat(local, remote)), ...externals.map((to) => sends('outside', to, dnat(local)))],
  },
  {
    name: '6.2: Local ignores hints, Cluster applies them',
    cluster: web({ externalPolicy: 'Local' }, [
      { ...here, zoneHints: ['b'] },
      { ...there, zoneHints: ['a'] },
    ]),
    packets: [sends('pod', clusterIP, dnat(remote)), sends('outside', externalIP, dnat(local))],
  },
  ...(['NodePort', 'LoadBalancer'] as const).map((type) => ({
    name: `6.3: eTP Local applies to type ${type}`,
    cluster: web({ type, externalIPs: [], loadBalancerIPs: [], externalPolicy: 'Local' }),
    packets: [sends('outside', nodePort, dnat(local))],
  })),
  {
    name: '6.3: eTP Local applies to type ClusterIP with external IPs',
    cluster: web({ type: 'ClusterIP', externalPolicy: 'Local' }),
    packets: [sends('outside', externalIP, dnat(local))],
  },
  {
    name: '6.3: eTP Local does not apply to type ClusterIP without external IPs',
    cluster: web({ type: 'ClusterIP', externalIPs: [], externalPolicy: 'Local' }),
    packets: [sends('outside', nodePort, masqueraded(local, remote)), sends('outside', lbIP, masqueraded(local, remote))],
  },
  {
    name: '6.4: pods are short-circuited and not masqueraded',
    cluster: web({ externalPolicy: 'Local' }),
    packets: externals.map((to) => sends('pod', to, dnat(local, remote))),
  },
  {
    name: "6.4: the node's own addresses are short-circuited and masqueraded",
    cluster: { ...web({ externalPolicy: 'Local' }), localAddresses: ['10.0.0.1'] },
    packets: externals.flatMap((to) => [
      sends('node', to, masqueraded(local, remote)),
      sends({ ip: '10.0.0.1', from: 'node' }, to, masqueraded(local, remote)),
    ]),
  },
  {
    name: '6.4: other clients reach the local endpoints and keep their source address',
    cluster: web({ externalPolicy: 'Local' }),
    packets: externals.map((to) => sends('outside', to, dnat(local))),
  },
  {
    name: "6.4: without a detector only the node's own traffic is short-circuited",
    cluster: web({ externalPolicy: 'Local' }, [there], { clusterCidr: [] }),
    packets: externals.flatMap((to) => [sends('pod', to, drop), sends('node', to, masqueraded(remote))]),
  },
  {
    name: '6.4: with ClusterCIDR a pod of another node is short-circuited too',
    cluster: web({ externalPolicy: 'Local' }, [there]),
    packets: [sends('remotePod', nodePort, dnat(remote))],
  },
  {
    name: '6.5: with NodeCIDR the policy of this node applies to pods of other nodes',
    cluster: web({ externalPolicy: 'Local' }, [there], { detectLocalMode: 'NodeCIDR' }),
    packets: [sends('remotePod', nodePort, drop), sends('pod', nodePort, dnat(remote))],
  },
];

const masquerading: SemanticsCase[] = [
  {
    name: '9 row 1: at a ClusterIP a node process and an outside client are masqueraded, a local pod is not',
    cluster: web({}),
    packets: [
      sends('pod', clusterIP, dnat(local, remote)),
      sends('node', clusterIP, masqueraded(local, remote)),
      sends('outside', clusterIP, masqueraded(local, remote)),
    ],
  },
  {
    name: '9 row 1: with masqueradeAll, local pods are masqueraded too',
    cluster: web({}, [here, there], { masqueradeAll: true }),
    packets: [sends('pod', clusterIP, masqueraded(local, remote)), sends('outside', clusterIP, masqueraded(local, remote))],
  },
  {
    name: '9 row 2: external frontends with eTP Cluster are always masqueraded, also for pods of this node',
    cluster: web({}),
    packets: externals.flatMap((to) =>
      (['pod', 'remotePod', 'node', 'outside'] as const).map((from) => sends(from, to, masqueraded(local, remote))),
    ),
  },
  {
    name: "9 row 3: external frontends with eTP Local are masqueraded only for the node's own addresses",
    cluster: web({ externalPolicy: 'Local' }),
    packets: externals.flatMap((to) => [
      sends('node', to, masqueraded(local, remote)),
      sends('pod', to, dnat(local, remote)),
      sends('outside', to, dnat(local)),
    ]),
  },
  {
    name: '9 row 4: hairpin: the backend is the source itself',
    cluster: web({ externalPolicy: 'Local' }),
    packets: [clusterIP, ...externals].map((to) => sends('localBackend', to, { ...dnat(local, remote), hairpin: [local] })),
  },
  {
    name: '9: masqueradeAll does not change eTP Local',
    cluster: web({ externalPolicy: 'Local' }, [here, there], { masqueradeAll: true }),
    packets: [sends('pod', externalIP, dnat(local, remote)), sends('outside', externalIP, dnat(local))],
  },
  {
    name: '9: without a detector, ClusterIP traffic is masqueraded only for hairpin',
    cluster: web({}, [here, there], { clusterCidr: [] }),
    packets: [
      sends('outside', clusterIP, dnat(local, remote)),
      sends('node', clusterIP, dnat(local, remote)),
      sends('localBackend', clusterIP, { ...dnat(local, remote), hairpin: [local] }),
    ],
  },
  {
    name: '9: iTP does not affect masquerading',
    cluster: web({ internalPolicy: 'Local' }),
    packets: [sends('pod', clusterIP, dnat(local)), sends('outside', clusterIP, masqueraded(local))],
  },
  {
    name: '9 detector ClusterCIDR: recognises every pod of the cluster',
    cluster: web({}),
    packets: [sends('remotePod', clusterIP, dnat(local, remote))],
  },
  {
    name: '9 detector ClusterCIDR: a family without CIDR has no detector',
    cluster: {
      services: [serviceRow({ clusterIPs: { IPv6: 'fd00:96::a' } })],
      slices: [sliceRow({ family: 'IPv6', endpoints: [endpointRow('fd00:244:0:2::2')] })],
      settings: { clusterCidr: ['10.244.0.0/16'] },
    },
    packets: [sends('outside6', '[fd00:96::a]:80/TCP', dnat('[fd00:244:0:2::2]:8080'))],
  },
  {
    name: '9 detector NodeCIDR: recognises the pods of this node',
    cluster: web({}, [here, there], { detectLocalMode: 'NodeCIDR' }),
    packets: [sends('pod', clusterIP, dnat(local, remote)), sends('remotePod', clusterIP, masqueraded(local, remote))],
  },
  {
    name: '9 detector InterfaceNamePrefix: recognises packets from such an interface, with any source address',
    cluster: { ...web({}, [here, there], { detectLocalMode: 'InterfaceNamePrefix' }), podInterfaces: ['veth', 'lxc'] },
    packets: [
      sends({ ip: '10.244.1.9', from: 'pod', iface: 'lxc12' }, clusterIP, dnat(local, remote)),
      sends({ ip: '198.51.100.7', from: 'pod', iface: 'veth0' }, clusterIP, dnat(local, remote)),
      sends({ ip: '10.244.1.9', from: 'external', iface: 'eth0' }, clusterIP, masqueraded(local, remote)),
      sends({ ip: '10.244.1.9', from: 'pod' }, clusterIP, dnat(local, remote)),
      sends({ ip: '10.244.1.9', from: 'external' }, clusterIP, masqueraded(local, remote)),
    ],
  },
  {
    name: '9 detector none: ClusterIP traffic is not masqueraded',
    cluster: web({}, [here, there], { detectLocalMode: 'none' }),
    packets: [sends('outside', clusterIP, dnat(local, remote)), sends('pod', externalIP, masqueraded(local, remote))],
  },
];

export const policyCases: readonly SemanticsCase[] = [...withoutBackends, ...policies, ...masquerading];
