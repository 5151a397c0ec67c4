// SPDX-License-Identifier: Apache-2.0
// The parts that several topologies share: two nodes behind a router, a client behind it, a second device of the node, tunnels and
// rules of other programs. Each function changes a lab; none starts a process.
import { type Lab, labNodes, podAddresses } from '../support/lab/lab.ts';
import { addTable, configure } from './world.ts';

/** Two nodes behind a router, and a client behind it. `pods`: numbers of pods behind routed veths with /32 and /128 addresses. */
export function buildNodes(lab: Lab, pods: readonly number[] = [1, 9, 101]): void {
  lab.addNode();
  lab.addClient();
  for (const number of pods) lab.addPod(number);
}

/** Adds a namespace for a pod of the first node, whose device in the node is lxcN. The caller adds addresses and routes. */
export function addBarePod(lab: Lab, number: number): void {
  const netns = `pod${number}`;
  lab.addNamespace(netns);
  configure(lab, 'node', `link add lxc${number} type veth peer name eth0 netns ${lab.netns(netns)}\n link set lxc${number} up`);
  configure(lab, netns, 'link set eth0 up');
}

/** Adds the device eth1 to the first node, and its peer "second" to the router. */
export function addSecondUplink(lab: Lab, node: { IPv4: string; IPv6: string }, router: { IPv4: string; IPv6: string }): void {
  configure(lab, 'node', `link add eth1 type veth peer name second netns ${lab.netns('outside')}`);
  for (const [netns, device, { IPv4, IPv6 }] of [
    ['node', 'eth1', node],
    ['outside', 'second', router],
  ] as const) {
    configure(
      lab,
      netns,
      `
      address add ${IPv4}/24 dev ${device}
      address add ${IPv6}/64 dev ${device} nodad
      link set ${device} up`,
    );
  }
}

/** Removes the addresses and routes of the first node's eth0. The caller adds others. */
export function clearUplink(lab: Lab): void {
  configure(
    lab,
    'node',
    `
    route flush default
    -6 route flush default
    address flush dev eth0 scope global`,
  );
}

/** Makes eth0 of the first node a port of the bridge br0, which gets its addresses and routes. */
export function moveUplinkToBridge(lab: Lab, bridgeNetfilter: '0' | '1'): void {
  clearUplink(lab);
  configure(
    lab,
    'node',
    `link add br0 type bridge
    link set eth0 master br0
    address add 10.0.0.1/24 dev br0
    address add fd00:10::1/64 dev br0 nodad
    link set br0 up
    route add default via 10.0.0.254
    -6 route add default via fd00:10::254`,
  );
  setBridgeNetfilter(lab, bridgeNetfilter);
}

function setBridgeNetfilter(lab: Lab, value: '0' | '1'): void {
  for (const tool of ['iptables', 'ip6tables']) lab.sysctl('node', `net.bridge.bridge-nf-call-${tool}`, value);
}

/** An underlay that does not know the addresses of pods: the router has no route to them and drops them. */
export function hidePods(lab: Lab): void {
  for (const { podCidrs } of Object.values(labNodes)) {
    configure(lab, 'outside', `route delete ${podCidrs.IPv4}\n -6 route delete ${podCidrs.IPv6}`);
  }
  const ranges = ['ip saddr 10.244.0.0/16', 'ip daddr 10.244.0.0/16', 'ip6 saddr fd00:244::/32', 'ip6 daddr fd00:244::/32'];
  const forward = ['type filter hook forward priority 0;', ...ranges.map((range) => `${range} drop`)];
  addTable(lab, 'outside', { table: 'inet underlay', chains: { forward } });
}

const subnetOf = { node: 1, 'node-b': 2 } as const;

/** The address of a node in the tunnel: the first address of its pod range. */
export const tunnelAddress = (node: keyof typeof subnetOf): { IPv4: string; IPv6: string } => ({
  IPv4: `10.244.${subnetOf[node]}.0`,
  IPv6: `fd00:244:${subnetOf[node]}::`,
});

/** Source translation as flannel and other overlays have it: pods reach other addresses, and others reach remote pods, by a node address. */
export function masqueradeOverlay(lab: Lab): void {
  for (const [netns, subnet] of Object.entries(subnetOf)) {
    for (const { ip, all, own } of [
      { ip: 'ip', all: '10.244.0.0/16', own: `10.244.${subnet}.0/24` },
      { ip: 'ip6', all: 'fd00:244::/32', own: `fd00:244:${subnet}::/64` },
    ]) {
      const postrouting = [
        'type nat hook postrouting priority srcnat;',
        `${ip} saddr ${all} ${ip} daddr ${all} return`,
        `${ip} saddr ${all} masquerade fully-random`,
        `${ip} saddr != ${all} ${ip} daddr ${own} return`,
        `${ip} saddr != ${all} ${ip} daddr ${all} masquerade fully-random`,
      ];
      addTable(lab, netns, { table: `${ip} overlay`, chains: { postrouting } });
    }
  }
}

/** A firewall of the node that drops what conntrack cannot explain. */
export function dropInvalid(lab: Lab): void {
  const chains = Object.fromEntries(
    ['prerouting', 'input', 'forward', 'output'].map((hook) => [
      hook,
      [`type filter hook ${hook} priority -150;`, 'ct state invalid counter drop'],
    ]),
  );
  addTable(lab, 'node', { table: 'inet strict', chains });
}

/** The pods of the first node behind ports of the bridge cni0, as the CNI bridge plugin makes them. */
export function addBridgedPods(lab: Lab, bridgeNetfilter: '0' | '1'): void {
  configure(
    lab,
    'node',
    `
    link add cni0 type bridge
    address add 10.244.1.254/24 dev cni0
    address add fd00:244:1::fe/64 dev cni0 nodad
    link set cni0 up`,
  );
  setBridgeNetfilter(lab, bridgeNetfilter);
  for (const number of [1, 9]) {
    const { IPv4, IPv6 } = podAddresses(number);
    addBarePod(lab, number);
    configure(lab, 'node', `link set lxc${number} master cni0\n link set lxc${number} type bridge_slave hairpin on`);
    configure(
      lab,
      `pod${number}`,
      `
      address add ${IPv4}/24 dev eth0
      address add ${IPv6}/64 dev eth0 nodad
      route add default via 10.244.1.254
      -6 route add default via fd00:244:1::fe`,
    );
  }
}
