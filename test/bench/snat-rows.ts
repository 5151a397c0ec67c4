// SPDX-License-Identifier: Apache-2.0
// The SNAT row: the cost of a new flow when no source port is free. It must stay low, because such flows can come in large
// numbers. tc_pod_out draws the port where the packet leaves, and drops the packet without changing it, so a test run can repeat it. The
// time includes that of the test run itself. main.ts runs the row.
import { testRun } from '../../daemon/kernel/test-run.ts';
import { backendRow, desiredRow, frontendRow } from '../support/builders.ts';
import { devices, plainHost } from '../kernel/fixture.ts';
import { build, TC_ACT_SHOT, tcpFlags } from '../kernel/packet.ts';
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
      ...{ name: 'SNAT port exhaustion, per packet', yardstick: 'itself, no Service', unit: 'ns' },
      goal: { of: 'ours', limit: 500, side: 'atMost' },
    },
  ];

  open(): void {
    const loaded = this.load();
    loaded.applyHost(plainHost, [{ set: 'node', cidr: `${node}/32` }]);
    loaded.apply([desiredRow('np', [frontendRow(node, { port: 30_080, type: 'NodePort' })], [backendRow('10.244.1.2')])]);
    loaded.maps.host.set(0, { ...loaded.maps.host.get(0), snatFirst: [2000, 0], snatCount: [PORTS, 0] });
    // Far more flows than ports, so that no port is free.
    for (let port = 0; port < 40 * PORTS; port += 1) loaded.forward('tc_uplink_in', syn(1000 + port, 30_080), { ifindex: devices.eth0 });
  }

  round(): Sample[] {
    return [{ ours: this.#time(30_080, true), theirs: this.#time(5000, false) }];
  }

  /** The time of the program where a packet to this port of the node leaves. */
  #time(destinationPort: number, isDropped: boolean): number {
    const entered = this.loaded.run('tc_uplink_in', syn(60_000, destinationPort), { ifindex: devices.eth0 });
    const at = { ifindex: devices.lxc2, ingressIfindex: devices.eth0, repeat: REPEAT };
    const { verdict, nanoseconds } = testRun(this.loaded.datapath.program('tc_pod_out'), entered.packet, at);
    if ((verdict === TC_ACT_SHOT) !== isDropped) throw new Error(`SNAT row: the verdict is ${verdict}.`);
    return nanoseconds;
  }
}
