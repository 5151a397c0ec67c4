// SPDX-License-Identifier: Apache-2.0
// The intended differences between Sluice and kube-proxy in the topologies, each with its reason and the exact outcome. Each must
// occur in every cell that it lists. The list only holds what README documents; everything else is a known failure.
import type { Cell } from './cells.ts';
import type { World } from './world.ts';

interface Difference {
  readonly why: string;
  /** The topologies in which it occurs. Default: all. */
  readonly topologies?: readonly string[];
  /** Rows of cells. */
  readonly cells: readonly string[];
  /** The outcome with Sluice. */
  readonly want: (cell: Cell, world: World) => string;
}

export const differences: readonly Difference[] = [
  {
    why: 'a pod that reaches itself by a ClusterIP sees the address of the frontend; kube-proxy masquerades (test/README.md, 9.14)',
    cells: ['off | * | * | pod | ClusterIP | own', 'on | * | connected | pod | ClusterIP | own'],
    want: (cell, world) => `pod sees ${world.frontendOf(cell).address}`,
  },
  {
    why: 'a pod that reaches itself by a ClusterIP, translated at the socket, sees its own address (test/README.md, 9.14)',
    cells: ['on | * | tcp,udp | pod | ClusterIP | own'],
    want: ({ family }, { addresses }) => `pod sees ${addresses.pod[family]}`,
  },
  {
    why: 'a process of the node reaches NodePorts of its own node only with socket translation (test/README.md, 2.15)',
    cells: ['off | * | * | node | NodePort,NodePort-Local | *'],
    want: ({ kind }) => (kind === 'udp' ? 'timeout' : 'ECONNREFUSED'),
  },
  {
    why: 'without socket translation, a process of the node cannot reach a backend on an address of the node (datapath/README.md, Limits)',
    cells: ['off | * | * | node | ClusterIP,LoadBalancer,LoadBalancer-Local | host'],
    want: () => 'timeout',
  },
  {
    why: 'pods on one bridge, whose answers netfilter does not see: kube-proxy cannot translate them back, and Sluice must',
    topologies: ['bridge'],
    cells: ['* | * | * | pod | ClusterIP,NodePort-Local,LoadBalancer-Local | near'],
    want: ({ family }, { addresses }) => `near sees ${addresses.pod[family]}`,
  },
  {
    why: 'a socket of the node that is translated keeps the source address that the kernel selects for the backend; kube-proxy masquerades',
    topologies: ['uplink-addresses'],
    cells: ['on | IPv4 | * | node | * | host'],
    want: () => 'node sees 10.0.0.5',
  },
  {
    why: 'a socket of the node that is translated keeps the source address that the kernel selects for the backend; kube-proxy masquerades',
    topologies: ['uplink-host-route'],
    cells: ['on | IPv4 | * | node | * | host'],
    want: () => 'node sees 10.0.0.1',
  },
  {
    why: 'a socket of the node that is translated keeps the source address that the route prefers; kube-proxy masquerades without asking the route',
    topologies: ['uplink-source'],
    cells: [
      'on | IPv4 | tcp,udp | node | ClusterIP,NodePort,LoadBalancer | far,far-host',
      'on | IPv4 | connected | node | NodePort | far,far-host',
    ],
    want: ({ backend }) => `${backend} sees 10.0.0.9`,
  },
  {
    why: 'a bridge as the uplink: Sluice forwards by a route, also out of the port of the bridge by which the request arrived',
    topologies: ['uplink-bridge-netfilter'],
    cells: ['* | * | udp,connected | outside | ClusterIP,NodePort,LoadBalancer | far,far-host'],
    want: ({ family, backend }, { addresses }) => `${backend} sees ${addresses.node[family]}`,
  },
];
