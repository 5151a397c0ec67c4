// SPDX-License-Identifier: Apache-2.0
// Topology (a): pods behind routed veths with /32 and /128 addresses, and an underlay that routes pod addresses.
import { compare } from './compare.ts';
import { buildNodes } from './nodes.ts';

compare({ name: 'routed', podInterfaces: 'lxc', uplinks: 'eth0', build: (lab) => buildNodes(lab) });
