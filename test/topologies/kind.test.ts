// SPDX-License-Identifier: Apache-2.0
// Topology (m): nodes as kind makes them. The uplink of a node is a veth to a bridge that all nodes share, the nodes route the pods of
// the other one directly, and pods are connected by the ptp plugin, so that the node's end of a veth has the gateway address.
import { type Lab, podAddresses } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { addBarePod, buildNodes } from './nodes.ts';
import { addTable, configure } from './world.ts';

const nodes = {
  node: { IPv4: '172.18.0.2', IPv6: 'fc00:f853:ccd:e793::2' },
  'node-b': { IPv4: '172.18.0.3', IPv6: 'fc00:f853:ccd:e793::3' },
} as const;
const host = { IPv4: '172.18.0.1', IPv6: 'fc00:f853:ccd:e793::1' };
const gateway = { IPv4: '10.244.1.254', IPv6: 'fd00:244:1::fe' };

/** The bridge of the machine, and the addresses of the nodes in its network instead of those of the lab. */
function share(lab: Lab): void {
  configure(
    lab,
    'outside',
    `
    link add kind type bridge
    address flush dev eth0 scope global
    address flush dev node-b scope global
    link set eth0 master kind
    link set node-b master kind
    address add ${host.IPv4}/16 dev kind
    address add ${host.IPv6}/64 dev kind nodad
    link set kind up
    route replace 10.96.0.0/16 via ${nodes.node.IPv4}
    route replace 203.0.113.0/24 via ${nodes.node.IPv4}
    -6 route replace fd00:96::/64 via ${nodes.node.IPv6}
    -6 route replace fd00:203::/64 via ${nodes.node.IPv6}`,
  );
  for (const [netns, { IPv4, IPv6 }] of Object.entries(nodes)) {
    const subnet = netns === 'node' ? 2 : 1;
    const other = netns === 'node' ? nodes['node-b'] : nodes.node;
    configure(
      lab,
      netns,
      `
      address flush dev eth0 scope global
      address add ${IPv4}/16 dev eth0
      address add ${IPv6}/64 dev eth0 nodad
      route replace default via ${host.IPv4}
      -6 route replace default via ${host.IPv6}
      route add 10.244.${subnet}.0/24 via ${other.IPv4}
      -6 route add fd00:244:${subnet}::/64 via ${other.IPv6}`,
    );
  }
}

function build(lab: Lab): void {
  buildNodes(lab, [101]);
  share(lab);
  for (const number of [1, 9]) {
    const { IPv4, IPv6 } = podAddresses(number);
    addBarePod(lab, number);
    configure(
      lab,
      'node',
      `
      address add ${gateway.IPv4}/32 dev lxc${number}
      address add ${gateway.IPv6}/128 dev lxc${number} nodad
      route add ${IPv4}/32 dev lxc${number}
      -6 route add ${IPv6}/128 dev lxc${number}`,
    );
    configure(
      lab,
      `pod${number}`,
      `
      address add ${IPv4}/32 dev eth0
      address add ${IPv6}/128 dev eth0 nodad
      route add ${gateway.IPv4} dev eth0
      route add default via ${gateway.IPv4}
      -6 route add ${gateway.IPv6} dev eth0
      -6 route add default via ${gateway.IPv6}`,
    );
  }
  // The rules of kindnet: the sources of pods are known inside of the cluster only.
  for (const [ip, range] of [
    ['ip', '10.244.0.0/16'],
    ['ip6', 'fd00:244::/32'],
  ] as const) {
    const postrouting = [
      'type nat hook postrouting priority srcnat;',
      'fib daddr type local return',
      `${ip} saddr ${range} ${ip} daddr != ${range} masquerade fully-random`,
    ];
    addTable(lab, 'node', { table: `${ip} kindnet`, chains: { postrouting } });
  }
}

compare({
  ...{ name: 'kind', podInterfaces: 'lxc', uplinks: 'eth0', build },
  addresses: { node: nodes.node, 'far-host': nodes['node-b'] },
});
