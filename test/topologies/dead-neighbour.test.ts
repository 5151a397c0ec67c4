// SPDX-License-Identifier: Apache-2.0
// Topology (i): the neighbour that leads to the backend does not answer. Clients must get "host unreachable" as early as from the
// control, from their own node (a pod of the node is dead) and from the router (the other node is dead).
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes } from './nodes.ts';
import { addTable } from './world.ts';

const dead = '* | * | tcp | * | ClusterIP,NodePort,LoadBalancer | near,far-host';
/** The kernel gives up after three probes, one per second. */
const TIMEOUT_MS = 6000;

function build(lab: Lab): void {
  buildNodes(lab);
  const ingress = ['type filter hook ingress device "eth0" priority 0; policy drop;'];
  for (const netns of ['pod1', 'node-b']) addTable(lab, netns, { table: 'netdev dead', chains: { ingress } });
  // All clients ask at the same time, and each must get an error.
  for (const netns of ['node', 'outside']) {
    for (const limit of ['net.ipv4.icmp_ratelimit', 'net.ipv6.icmp.ratelimit']) lab.sysctl(netns, limit, '0');
  }
}

compare({
  ...{ name: 'dead-neighbour', podInterfaces: 'lxc', uplinks: 'eth0', build, only: [dead], timeoutMs: TIMEOUT_MS },
  withoutControl: [{ why: 'nothing resolves the address of the backend or of its node', cells: [dead], code: 'EHOSTUNREACH' }],
});
