// SPDX-License-Identifier: Apache-2.0
// Topology (b): pods on a bridge, whose frames do not pass netfilter (br_netfilter off), and rules that drop invalid packets.
import { compare } from './compare.ts';
import { addBridgedPods, buildNodes, dropInvalid } from './nodes.ts';

compare({
  ...{ name: 'bridge', podInterfaces: 'lxc', uplinks: 'eth0' },
  build: (lab) => {
    buildNodes(lab, [101]);
    addBridgedPods(lab, '0');
    dropInvalid(lab);
  },
  withoutControl: [
    {
      why: 'the answer is switched by the bridge, and the source of its packets is the backend',
      cells: ['* | * | * | pod | ClusterIP,NodePort-Local,LoadBalancer-Local | near'],
    },
  ],
});
