// SPDX-License-Identifier: Apache-2.0
// Topology (h): the node's routes to pods, and the router's route to the client, have an MTU below that of their devices. Datagrams and
// segments of full size do not fit.
import { type Lab, podAddresses } from '../support/lab/lab.ts';
import { compare } from './compare.ts';
import { buildNodes } from './nodes.ts';
import { configure } from './world.ts';

function build(lab: Lab): void {
  buildNodes(lab);
  const { IPv4, IPv6 } = podAddresses(1);
  configure(
    lab,
    'node',
    `
    route replace ${IPv4}/32 dev lxc1 mtu 1400
    -6 route replace ${IPv6}/128 dev lxc1 mtu 1400
    route add 10.0.1.0/24 via 10.0.0.254 mtu 1360
    route add 10.244.2.0/24 via 10.0.0.254 mtu 1380
    -6 route add fd00:10:1::/64 via fd00:10::254 mtu 1360
    -6 route add fd00:244:2::/64 via fd00:10::254 mtu 1380`,
  );
  lab.narrow(1320, 'client');
}

compare({ name: 'mtu', podInterfaces: 'lxc', uplinks: 'eth0', datagram: 1440, build });
