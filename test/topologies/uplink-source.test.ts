// SPDX-License-Identifier: Apache-2.0
// Topology (g), a default route with a source address: the node's own connections have it. Masquerading does not ask the route.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes } from './nodes.ts';
import { configure } from './world.ts';

function build(lab: Lab): void {
  buildNodes(lab);
  configure(
    lab,
    'node',
    `
    address add 10.0.0.9/24 dev eth0
    address add fd00:10::9/64 dev eth0 nodad
    route replace default via 10.0.0.254 src 10.0.0.9
    -6 route replace default via fd00:10::254 src fd00:10::9`,
  );
}

compare({ name: 'uplink-source', podInterfaces: 'lxc', uplinks: 'eth0', build });
