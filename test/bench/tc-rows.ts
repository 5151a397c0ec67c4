// SPDX-License-Identifier: Apache-2.0
// The tc rows: compare tc_pod_in with the floor program for one established flow, many established flows, new flows, and packets
// to no Service. The same process measures both programs, one after the other. main.ts runs the rows.
import { benchSizes, NO_SERVICE, portOf, vip } from './harness.ts';
import type { Row, Sample } from './row.ts';
import { TestRunGroup } from './test-run-group.ts';

const REPEAT = 1_000_000;
const SERVICES = 1000;

interface TcRow extends Row {
  readonly flows: number;
  readonly destination: string;
  readonly warmUp: number;
}

const row = (name: string, limit: number, run: Pick<TcRow, 'flows' | 'destination' | 'warmUp'>): TcRow => ({
  ...{ name, yardstick: run.destination === NO_SERVICE ? 'tc floor, pass' : 'tc floor', unit: 'ns', ...run },
  goal: { of: 'ratio', limit, side: 'atMost' },
});

export class TcBench extends TestRunGroup<TcRow> {
  readonly rows = [
    row('tc ClusterIP from a pod, established, 1 flow', 1.6, { flows: 1, destination: vip(7), warmUp: 1000 }),
    row('tc ClusterIP from a pod, established, 256,000 flows', 1.1, { flows: 256_000, destination: vip(7), warmUp: 600_000 }),
    row('tc ClusterIP from a pod, new flow', 1.1, { flows: 1 << 24, destination: vip(7), warmUp: REPEAT }),
    row('tc packet to no Service, pass', 1.3, { flows: 1, destination: NO_SERVICE, warmUp: 1000 }),
  ];

  open(): void {
    this.load(benchSizes(SERVICES)).apply(Array.from({ length: SERVICES }, (_, n) => portOf(n, ['10.244.1.2', '10.244.1.3'])));
    this.harness.fillFloor(SERVICES);
  }

  round(rows: readonly TcRow[]): Sample[] {
    const { harness, loaded } = this;
    return rows.map(({ flows, destination, warmUp }) => {
      const isTranslated = destination !== NO_SERVICE;
      const programs = [harness.program('bench_floor'), loaded.datapath.program('tc_pod_in')];
      const [theirs = NaN, ours = NaN] = harness.net(programs, { destination, flows, vips: 1, warmUp, repeat: REPEAT, isTranslated });
      return { ours, theirs };
    });
  }
}
