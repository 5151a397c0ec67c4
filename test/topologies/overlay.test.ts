// SPDX-License-Identifier: Apache-2.0
// Topology (c): a vxlan overlay as flannel makes it, and an underlay that drops the addresses of pods.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes, hidePods, masqueradeOverlay, tunnelAddress } from './nodes.ts';
import { configure } from './world.ts';

const ends = [
  { netns: 'node', other: 'node-b', mac: '02:42:00:00:00:01', otherMac: '02:42:00:00:00:02', local: '10.0.0.1', remote: '10.0.1.1' },
  { netns: 'node-b', other: 'node', mac: '02:42:00:00:00:02', otherMac: '02:42:00:00:00:01', local: '10.0.1.1', remote: '10.0.0.1' },
] as const;

function build(lab: Lab): void {
  buildNodes(lab);
  hidePods(lab);
  masqueradeOverlay(lab);
  for (const { netns, other, mac, otherMac, local, remote } of ends) {
    const [own, peer] = [tunnelAddress(netns), tunnelAddress(other)];
    configure(
      lab,
      netns,
      `
      link add flannel.1 address ${mac} type vxlan id 1 local ${local} dev eth0 dstport 8472 nolearning
      address add ${own.IPv4}/32 dev flannel.1
      address add ${own.IPv6}/128 dev flannel.1 nodad
      link set flannel.1 up
      neigh add ${peer.IPv4} lladdr ${otherMac} dev flannel.1 nud permanent
      neigh add ${peer.IPv6} lladdr ${otherMac} dev flannel.1 nud permanent
      route add ${peer.IPv4}/24 via ${peer.IPv4} dev flannel.1 onlink
      -6 route add ${peer.IPv6}/64 via ${peer.IPv6} dev flannel.1 onlink`,
    );
    lab.run(netns, 'bridge', 'fdb', 'append', otherMac, 'dst', remote, 'dev', 'flannel.1');
  }
}

compare({ name: 'overlay', podInterfaces: 'lxc', uplinks: 'eth0,flannel.1', build });
