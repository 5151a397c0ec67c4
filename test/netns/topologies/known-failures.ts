// SPDX-License-Identifier: Apache-2.0
// The cells that fail today, by topology and reason. A cell that passes must be removed, so the lists can only become shorter. A failing
// test prints its cells as rows in this form.

interface Failures {
  readonly why: string;
  /** Rows of cells: --socket-lb, family, kind, from, frontend, backend. */
  readonly cells: readonly string[];
}

const ownBackend: Failures = {
  why: 'a connected UDP socket of the node gets no answer from a backend on the node',
  cells: ['on | * | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | host'],
};
const masqueraded = 'the masquerade address is that of the Node object, and not one of the device that the packets leave by';
const unresolved = 'packets to a pod are redirected to its port of the bridge, where its neighbour entry is never resolved';

export const knownFailures: Readonly<Record<string, readonly Failures[]>> = {
  routed: [ownBackend],
  'bridge-netfilter': [
    {
      why: unresolved,
      cells: [
        'off | * | * | pod | * | near,far,far-host,own',
        'on | * | * | pod | NodePort,LoadBalancer,NodePort-Local,LoadBalancer-Local | near,far,far-host,own',
        'on | * | connected | pod | ClusterIP | near,far,far-host,own',
      ],
    },
    {
      why: masqueraded,
      cells: [
        'off | * | * | node,outside | ClusterIP,LoadBalancer | near',
        'off | * | * | node | LoadBalancer-Local | near',
        '* | * | * | outside | NodePort | near',
        'on | * | * | outside | ClusterIP,LoadBalancer | near',
        'on | * | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near',
      ],
    },
    ownBackend,
  ],
  bridge: [
    {
      why: unresolved,
      cells: [
        'off | * | * | pod | * | near,far,far-host,own',
        'on | * | * | pod | NodePort,LoadBalancer,NodePort-Local,LoadBalancer-Local | near,far,far-host,own',
        'on | * | connected | pod | ClusterIP | near,far,far-host,own',
      ],
    },
    {
      why: masqueraded,
      cells: [
        'off | * | * | node,outside | ClusterIP,LoadBalancer | near',
        'off | * | * | node | LoadBalancer-Local | near',
        '* | * | * | outside | NodePort | near',
        'on | * | * | outside | ClusterIP,LoadBalancer | near',
        'on | * | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near',
      ],
    },
    ownBackend,
  ],
  overlay: [
    {
      why: 'the packets pass no rule of netfilter, so the source translation of the overlay does not apply to them',
      cells: ['off | * | * | pod | ClusterIP | far-host', 'on | * | connected | pod | ClusterIP | far-host'],
    },
    {
      why: masqueraded,
      cells: [
        '* | * | * | pod,outside | NodePort,LoadBalancer | far',
        'off | * | * | node,outside | ClusterIP | far',
        'off | * | * | node | LoadBalancer | far',
        '* | IPv6 | * | pod,outside | NodePort,LoadBalancer | near,own',
        'off | IPv6 | * | node,outside | ClusterIP | near',
        'off | IPv6 | * | node | LoadBalancer,LoadBalancer-Local | near',
        'on | * | * | outside | ClusterIP | far',
        'on | * | connected | node | ClusterIP,LoadBalancer | far',
        'on | IPv6 | * | outside | ClusterIP | near',
        'on | IPv6 | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near',
      ],
    },
    ownBackend,
  ],
  'source-routes': [
    {
      why: 'the masqueraded packets leave by the second device with an address of the first one',
      cells: ['* | * | * | pod | NodePort,LoadBalancer | far,far-host'],
    },
    ownBackend,
  ],
  tunnel: [
    {
      why: 'no program handles the packets of a device without an Ethernet header, so the answers are not translated',
      cells: ['off | * | * | pod | ClusterIP | far', 'on | * | connected | pod | ClusterIP | far'],
    },
    {
      why: 'the packets pass no rule of netfilter, so the source translation of the overlay does not apply to them',
      cells: ['off | * | * | pod | ClusterIP | far-host', 'on | * | connected | pod | ClusterIP | far-host'],
    },
    {
      why: masqueraded,
      cells: [
        '* | * | * | pod,outside | NodePort,LoadBalancer | far',
        'off | * | * | node,outside | ClusterIP | far',
        'off | * | * | node | LoadBalancer | far',
        '* | IPv6 | * | pod,outside | NodePort,LoadBalancer | near,own',
        'off | IPv6 | * | node,outside | ClusterIP | near',
        'off | IPv6 | * | node | LoadBalancer,LoadBalancer-Local | near',
        'on | * | * | outside | ClusterIP | far',
        'on | * | connected | node | ClusterIP,LoadBalancer | far',
        'on | IPv6 | * | outside | ClusterIP | near',
        'on | IPv6 | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near',
      ],
    },
    ownBackend,
  ],
  'two-uplinks': [
    {
      why: 'an answer leaves by the device that the request arrived on, which has no route to the client',
      cells: ['* | * | * | outside | * | near,far,host,far-host'],
    },
    ownBackend,
  ],
  kind: [
    {
      why: 'the packets pass no rule of netfilter, so the source translation of the network plugin does not apply to them',
      cells: ['off | * | * | pod | ClusterIP | far-host', 'on | * | connected | pod | ClusterIP | far-host'],
    },
    {
      why: masqueraded,
      cells: [
        '* | * | * | pod,outside | NodePort,LoadBalancer | near,own',
        'off | * | * | node,outside | ClusterIP | near',
        'off | * | * | node | LoadBalancer,LoadBalancer-Local | near',
        'on | * | * | outside | ClusterIP | near',
        'on | * | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near',
      ],
    },
    ownBackend,
  ],
  mtu: [ownBackend],
  'uplink-addresses': [
    {
      why: masqueraded,
      cells: [
        '* | IPv4 | * | pod,outside | NodePort,LoadBalancer | near,far,far-host,own',
        'off | IPv4 | * | node,outside | ClusterIP | near,far,far-host',
        'off | IPv4 | * | node | LoadBalancer,LoadBalancer-Local | near,far,far-host',
        'on | IPv4 | * | outside | ClusterIP | near,far,far-host',
        'on | IPv4 | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near,far,far-host',
      ],
    },
    ownBackend,
  ],
  'uplink-host-route': [
    {
      why: masqueraded,
      cells: [
        '* | IPv4 | * | pod,outside | NodePort,LoadBalancer | near,far,far-host,own',
        'off | IPv4 | * | node,outside | ClusterIP | near,far,far-host',
        'off | IPv4 | * | node | LoadBalancer,LoadBalancer-Local | near,far,far-host',
        'on | IPv4 | * | outside | ClusterIP | near,far,far-host',
        'on | IPv4 | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near,far,far-host',
      ],
    },
    ownBackend,
  ],
  'uplink-source': [
    {
      why: masqueraded,
      cells: [
        '* | IPv6 | * | pod,outside | NodePort,LoadBalancer | near,far,far-host,own',
        'off | IPv6 | * | node,outside | ClusterIP | near,far,far-host',
        'off | IPv6 | * | node | LoadBalancer,LoadBalancer-Local | near,far,far-host',
        'on | IPv6 | * | outside | ClusterIP | near,far,far-host',
        'on | IPv6 | connected | node | ClusterIP,LoadBalancer,LoadBalancer-Local | near,far,far-host',
      ],
    },
    ownBackend,
  ],
  'forward-drop': [ownBackend],
  'uplink-bridge': [ownBackend],
  'uplink-unnumbered': [ownBackend],
  'uplink-bridge-netfilter': [
    {
      why: 'conntrack on the port of the bridge sees only one direction of the connection, so its packets are invalid',
      cells: [
        'off | * | tcp | pod,node | ClusterIP,LoadBalancer | far,far-host',
        '* | * | tcp | pod | NodePort | far,far-host',
        '* | * | tcp | outside | * | host',
        'on | * | tcp | pod | LoadBalancer | far,far-host',
      ],
    },
    ownBackend,
  ],
  'dead-neighbour': [
    {
      why: 'the error that the node sends about a translated packet is not translated for the client',
      cells: [
        'off | * | tcp | * | ClusterIP,LoadBalancer | near',
        '* | * | tcp | pod,outside | NodePort | near',
        'on | * | tcp | pod,outside | LoadBalancer | near',
        'on | * | tcp | outside | ClusterIP | near',
      ],
    },
  ],
};

/** The changes under traffic (changes.test.ts) that fail today, with the reason. */
export const knownChanges: Readonly<Record<string, string>> = {
  'the route to the backend moves to another uplink': 'a flow is bound to the device by which the backend was reached first',
  'the address of the node changes': 'open flows keep the address from which they were masqueraded',
};
