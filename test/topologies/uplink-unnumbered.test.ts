// SPDX-License-Identifier: Apache-2.0
// Topology (g), an unnumbered uplink: the addresses of the node are on the loopback device, as with BGP to the rack.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes, clearUplink } from './nodes.ts';
import { configure } from './world.ts';

/** IPv6 answers neighbour solicitations only for the addresses of the device, so the router has routes by this address. */
const linkLocal = 'fe80::a';

function build(lab: Lab): void {
  buildNodes(lab);
  clearUplink(lab);
  configure(
    lab,
    'node',
    `address add 10.0.0.1/32 dev lo
    address add fd00:10::1/128 dev lo
    address add ${linkLocal}/64 dev eth0 nodad
    route add default via 10.0.0.254 dev eth0 onlink
    -6 route add default via fd00:10::254 dev eth0 onlink`,
  );
  for (const range of ['fd00:10::1/128', 'fd00:96::/64', 'fd00:203::/64', 'fd00:244:1::/64'])
    configure(lab, 'outside', `-6 route replace ${range} via ${linkLocal} dev eth0`);
}

compare({ name: 'uplink-unnumbered', podInterfaces: 'lxc', uplinks: 'eth0', build });
