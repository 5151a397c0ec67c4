// SPDX-License-Identifier: Apache-2.0
// Topology (f): the rules of the Amazon VPC CNI. The pods of the node have addresses of the second device, and a rule by source routes
// their packets out of it. Answers to requests that arrived on the first device leave by it, because a mark of the connection selects
// the main table. The network drops packets whose source is not an address of the device that they come from.
import { type Lab, nodeAddresses, podAddresses } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { addSecondUplink, buildNodes } from './nodes.ts';
import { addTable, configure } from './world.ts';

const second = { IPv4: '10.0.3.1', IPv6: 'fd00:10:3::1' };
const gateway = { IPv4: '10.0.3.254', IPv6: 'fd00:10:3::254' };
const pods = [podAddresses(1), podAddresses(9)];

function build(lab: Lab): void {
  buildNodes(lab);
  addSecondUplink(lab, second, gateway);
  lab.sysctl('node', 'net.ipv4.conf.eth0.rp_filter', '2');
  for (const [family, flag] of [
    ['IPv4', '-4'],
    ['IPv6', '-6'],
  ] as const) {
    configure(
      lab,
      'node',
      `
      ${flag} route add ${gateway[family]} dev eth1 table 2
      ${flag} route add default via ${gateway[family]} dev eth1 table 2
      ${flag} rule add pref 1024 fwmark 0x80/0x80 lookup main`,
    );
    for (const pod of pods) {
      configure(
        lab,
        'node',
        `${flag} rule add pref 512 to ${pod[family]} lookup main\n ${flag} rule add pref 1536 from ${pod[family]} lookup 2`,
      );
    }
  }
  const prerouting = [
    'type filter hook prerouting priority mangle;',
    'iifname "eth0" fib daddr . iif type local ct mark set ct mark or 0x80',
    'iifname "lxc*" ct mark and 0x80 == 0x80 meta mark set meta mark or 0x80',
  ];
  addTable(lab, 'node', { table: 'inet aws', chains: { prerouting } });
  configure(lab, 'outside', `route replace 10.244.1.0/24 via ${second.IPv4}\n -6 route replace fd00:244:1::/64 via ${second.IPv6}`);
  const owned = (family: 'IPv4' | 'IPv6'): string => [second, ...pods].map((each) => each[family]).join(', ');
  const forward = [
    'type filter hook forward priority 0;',
    `iifname "eth0" ip saddr != ${nodeAddresses.IPv4} drop`,
    `iifname "eth0" ip6 saddr != ${nodeAddresses.IPv6} drop`,
    `iifname "second" ip saddr != { ${owned('IPv4')} } drop`,
    `iifname "second" ip6 saddr != { ${owned('IPv6')} } drop`,
  ];
  addTable(lab, 'outside', { table: 'inet vpc', chains: { forward } });
}

compare({
  ...{ name: 'source-routes', podInterfaces: 'lxc', uplinks: 'eth0,eth1', build },
  withoutControl: [
    {
      why: 'the network drops the answers, because their source is not an address of the node',
      cells: ['* | * | * | outside | ClusterIP,LoadBalancer,LoadBalancer-Local | *'],
    },
  ],
});
