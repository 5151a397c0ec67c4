// SPDX-License-Identifier: Apache-2.0
// Topology (b): pods on a bridge, whose frames pass the rules of netfilter (br_netfilter on), and rules that drop invalid packets.
import { compare } from './compare.ts';
import { addBridgedPods, buildNodes, dropInvalid } from './nodes.ts';

compare({
  ...{ name: 'bridge-netfilter', podInterfaces: 'lxc', uplinks: 'eth0' },
  build: (lab) => {
    buildNodes(lab, [101]);
    addBridgedPods(lab, '1');
    dropInvalid(lab);
  },
});
