// SPDX-License-Identifier: Apache-2.0
// Topology (l): a firewall whose policy in the forward hook is drop, as Docker's, and which accepts only the packets of pods. With
// kube-proxy, its own rules accept the packets that it masquerades, and everything that belongs to a connection. With Sluice,
// --accept-forwarded does.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes } from './nodes.ts';
import { addTable } from './world.ts';

function build(lab: Lab, isControl: boolean): void {
  buildNodes(lab);
  const ofKubeProxy = ['ct state invalid drop', 'meta mark and 0x4000 == 0x4000 accept', 'ct state established,related accept'];
  const forward = [
    'type filter hook forward priority 0; policy drop;',
    ...(isControl ? ofKubeProxy : []),
    ...['ip saddr 10.244.0.0/16 accept', 'ip daddr 10.244.0.0/16 accept'],
    ...['ip6 saddr fd00:244::/32 accept', 'ip6 daddr fd00:244::/32 accept'],
  ];
  addTable(lab, 'node', { table: 'inet docker', chains: { forward } });
}

compare({ name: 'forward-drop', podInterfaces: 'lxc', uplinks: 'eth0', extra: ['--accept-forwarded', 'on'], build });
