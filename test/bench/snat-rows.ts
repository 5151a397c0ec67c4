// SPDX-License-Identifier: Apache-2.0
// What a new flow costs that no source port is left for: a flood of them must stay cheap. tc_uplink_in drops the packet as it
// came, so that a test run may repeat it as it is; whole time, the test run's own included.
import { testRun } from '../../daemon/kernel/test-run.ts';
import { backendRow, desiredRow, frontendRow } from '../support/builders.ts';
import { devices, plainHost } from '../kernel/fixture.ts';
import { build, TC_ACT_OK, TC_ACT_SHOT, tcpFlags } from '../kernel/packet.ts';
import type { Row, Sample } from './row.ts';
import { TestRunGroup } from './test-run-group.ts';

const REPEAT = 400_000;
const PORTS = 64;
const node = '10.0.0.1';

const syn = (sourcePort: number, destinationPort: number): Uint8Array =>
  build({ protocol: 'TCP', source: '10.0.0.7', destination: node, sourcePort, destinationPort, flags: tcpFlags.SYN });

export class SnatBench extends TestRunGroup {
  readonly rows: readonly Row[] = [
    {
      ...{ name: 'SNAT port exhaustion, per packet', yardstick: 'itself, not ours', unit: 'ns' },
      goal: { of: 'ours', limit: 500, side: 'atMost' },
    },
  ];

  open(): void {
    const loaded = this.load();
    loaded.applyHost(plainHost, [{ set: 'node', cidr: `${node}/32` }]);
    loaded.apply([desiredRow('np', [frontendRow(node, { port: 30_080, type: 'NodePort' })], [backendRow('10.244.1.2')])]);
    loaded.maps.host.set(0, { ...loaded.maps.host.get(0), snatFirst: [2000, 0], snatCount: [PORTS, 0] });
    // Far more flows than ports: none is left.
    for (let port = 0; port < 40 * PORTS; port += 1) loaded.run('tc_uplink_in', syn(1000 + port, 30_080), { ifindex: devices.eth0 });
  }

  round(): Sample[] {
    return [{ ours: this.#time(30_080, TC_ACT_SHOT), theirs: this.#time(5000, TC_ACT_OK) }];
  }

  #time(destinationPort: number, expected: number): number {
    const program = this.loaded.datapath.program('tc_uplink_in');
    const { verdict, nanoseconds } = testRun(program, syn(60_000, destinationPort), { ifindex: devices.eth0, repeat: REPEAT });
    if (verdict !== expected) throw new Error(`SNAT row: verdict ${verdict}, expected ${expected}`);
    return nanoseconds;
  }
}
