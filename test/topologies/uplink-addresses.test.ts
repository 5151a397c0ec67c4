// SPDX-License-Identifier: Apache-2.0
// Topology (g), several addresses on the uplink: the address of the Node object is the last one, and the first one is in another subnet
// than the router.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes, clearUplink } from './nodes.ts';
import { configure } from './world.ts';

function build(lab: Lab): void {
  buildNodes(lab);
  clearUplink(lab);
  configure(
    lab,
    'node',
    `
    address add 10.7.7.7/24 dev eth0
    address add 10.0.0.5/24 dev eth0
    address add 10.0.0.1/24 dev eth0
    address add fd00:7::7/64 dev eth0 nodad
    address add fd00:10::5/64 dev eth0 nodad
    address add fd00:10::1/64 dev eth0 nodad
    route add default via 10.0.0.254
    -6 route add default via fd00:10::254`,
  );
  configure(lab, 'outside', 'route add 10.7.7.0/24 dev eth0\n -6 route add fd00:7::/64 dev eth0');
}

compare({ name: 'uplink-addresses', podInterfaces: 'lxc', uplinks: 'eth0', build });
