// SPDX-License-Identifier: Apache-2.0
// Topology (e): two uplinks. Requests and the answers of other nodes arrive by eth1, and the default route leads out of eth0. Reverse
// path filtering is loose.
import type { Lab } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { addSecondUplink, buildNodes } from './nodes.ts';
import { configure } from './world.ts';

const second = { IPv4: '10.8.0.1', IPv6: 'fd00:8::1' };

function build(lab: Lab): void {
  buildNodes(lab);
  addSecondUplink(lab, second, { IPv4: '10.8.0.254', IPv6: 'fd00:8::254' });
  for (const device of ['eth0', 'eth1']) lab.sysctl('node', `net.ipv4.conf.${device}.rp_filter`, '2');
  configure(
    lab,
    'outside',
    `
    route replace 10.96.0.0/16 via ${second.IPv4}
    route replace 203.0.113.0/24 via ${second.IPv4}
    route replace 10.244.1.0/24 via ${second.IPv4}
    -6 route replace fd00:96::/64 via ${second.IPv6}
    -6 route replace fd00:203::/64 via ${second.IPv6}
    -6 route replace fd00:244:1::/64 via ${second.IPv6}`,
  );
}

compare({
  ...{ name: 'two-uplinks', podInterfaces: 'lxc', uplinks: 'eth0,eth1', nodePort: second, build },
  extra: ['--node-port-addresses', '10.8.0.0/24,fd00:8::/64'],
});
