// SPDX-License-Identifier: Apache-2.0
// Topology (d): an overlay whose tunnel is a TUN device, which has no Ethernet header, and an underlay that drops the addresses of pods.
import type { Lab } from '../support/lab/lab.ts';
import { startTun } from '../support/lab/peers.ts';
import { compare } from './compare.ts';
import { buildNodes, hidePods, masqueradeOverlay, tunnelAddress } from './nodes.ts';
import { configure } from './world.ts';

const ends = [
  { netns: 'node', other: 'node-b', local: '10.0.0.1', remote: '10.0.1.1' },
  { netns: 'node-b', other: 'node', local: '10.0.1.1', remote: '10.0.0.1' },
] as const;

async function build(lab: Lab): Promise<void> {
  buildNodes(lab);
  hidePods(lab);
  masqueradeOverlay(lab);
  for (const { netns, other, local, remote } of ends) {
    const [own, peer] = [tunnelAddress(netns), tunnelAddress(other)];
    await startTun(lab, netns, { device: 'tun0', local, remote, port: 5555 });
    configure(
      lab,
      netns,
      `
      address add ${own.IPv4}/32 dev tun0
      address add ${own.IPv6}/128 dev tun0 nodad
      link set tun0 mtu 1400 up
      route add ${peer.IPv4}/24 dev tun0
      -6 route add ${peer.IPv6}/64 dev tun0`,
    );
  }
}

compare({ name: 'tunnel', podInterfaces: 'lxc', uplinks: 'eth0,tun0', build });
