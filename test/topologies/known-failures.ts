// SPDX-License-Identifier: Apache-2.0
// The cells that fail today, by topology and reason. A cell that passes must be removed, so the lists can only become shorter. A failing
// test prints its cells as rows in this form.

interface Failures {
  readonly why: string;
  /** Rows of cells: --socket-lb, family, kind, from, frontend, backend. */
  readonly cells: readonly string[];
}

export const knownFailures: Readonly<Record<string, readonly Failures[]>> = {
  routed: [],
  bridge: [],
  'bridge-netfilter': [],
  overlay: [],
  tunnel: [],
  'two-uplinks': [],
  'source-routes': [],
  'uplink-bridge': [],
  'uplink-bridge-netfilter': [
    {
      why: 'conntrack on the port of the bridge sees the packets before they are translated, and drops their answers',
      cells: [
        '* | * | tcp | pod | NodePort,LoadBalancer | far,far-host',
        'off | * | tcp | node | ClusterIP,LoadBalancer | far,far-host',
        '* | * | tcp | outside | * | near,host',
      ],
    },
  ],
  'uplink-addresses': [],
  'uplink-host-route': [],
  'uplink-unnumbered': [],
  'uplink-source': [],
  mtu: [],
  'dead-neighbour': [
    {
      why: 'a connection of the node to a dead backend gets no error',
      cells: ['off | * | tcp | node | ClusterIP,LoadBalancer | near'],
    },
  ],
  'forward-drop': [],
  kind: [],
};

/** The changes under traffic (changes.test.ts) that fail today, with the reason. */
export const knownChanges: Readonly<Record<string, string>> = {};
