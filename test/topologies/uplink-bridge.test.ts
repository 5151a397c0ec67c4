// SPDX-License-Identifier: Apache-2.0
// Topology (g), a bridge as the uplink: the node's addresses are on br0, and the network device is a port of it. Frames on the bridge do
// not pass netfilter (br_netfilter off).
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes, moveUplinkToBridge } from './nodes.ts';

function build(lab: Lab): void {
  buildNodes(lab);
  moveUplinkToBridge(lab, '0');
}

compare({
  ...{ name: 'uplink-bridge', podInterfaces: 'lxc', uplinks: 'br0', build },
});
