// SPDX-License-Identifier: Apache-2.0
// Topology (g), /32 and /128 addresses on the uplink: no subnet holds the router. The address of the Node object is the second one.
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
    address add 10.7.7.7/32 dev eth0
    address add 10.0.0.1/32 dev eth0
    address add fd00:7::7/128 dev eth0 nodad
    address add fd00:10::1/128 dev eth0 nodad
    route add 10.0.0.254 dev eth0
    route add default via 10.0.0.254
    -6 route add fd00:10::254 dev eth0
    -6 route add default via fd00:10::254`,
  );
  configure(lab, 'outside', 'route add 10.7.7.7/32 via 10.0.0.1\n -6 route add fd00:7::7/128 via fd00:10::1');
}

compare({ name: 'uplink-host-route', podInterfaces: 'lxc', uplinks: 'eth0', build });
