// SPDX-License-Identifier: Apache-2.0
// Topology (g), a bridge as the uplink: the node's addresses are on br0, and the network device is a port of it. Frames on the bridge pass
// the rules of netfilter (br_netfilter on), which drop invalid packets.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes, dropInvalid, moveUplinkToBridge } from './nodes.ts';

function build(lab: Lab): void {
  buildNodes(lab);
  moveUplinkToBridge(lab, '1');
  dropInvalid(lab);
}

compare({
  ...{ name: 'uplink-bridge-netfilter', podInterfaces: 'lxc', uplinks: 'br0', build },
  withoutControl: [
    {
      why: 'br_netfilter forwards the translated frame on the bridge, which does not send it out of the port that it came in by',
      cells: ['* | * | * | outside | ClusterIP,NodePort,LoadBalancer | far,far-host'],
    },
  ],
});
