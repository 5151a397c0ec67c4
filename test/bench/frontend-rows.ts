// SPDX-License-Identifier: Apache-2.0
// The rows "in turn" measure the cost of the frontend lookup and of the backend selection. 100,000 Services are in the maps. One
// side sends packets to many of the Services in turn, the other side sends all packets to one Service. Both sides run tc_pod_in
// with the same number of flows. main.ts runs these rows.
import { benchSizes, portOf, vip } from './harness.ts';
import type { Row, Sample } from './row.ts';
import { TestRunGroup } from './test-run-group.ts';

const REPEAT = 400_000;
const SERVICES = 100_000;
const NEW_FLOWS = 1 << 24;

interface FrontendRow extends Row {
  readonly vips: number;
  readonly flows: number;
  readonly warmUp: number;
}

const row = (name: string, run: Pick<FrontendRow, 'vips' | 'flows' | 'warmUp'>): FrontendRow => ({
  ...{ name, yardstick: 'itself, 1 in turn', unit: 'ns', ...run },
  goal: { of: 'ratio', limit: 2, side: 'atMost' },
});

export class FrontendBench extends TestRunGroup<FrontendRow> {
  readonly rows = [
    row('100,000 frontends in turn, established, 100,000 flows', { vips: SERVICES, flows: SERVICES, warmUp: 200_000 }),
    row('100,000 frontends in turn, new flow', { vips: SERVICES, flows: NEW_FLOWS, warmUp: 100_000 }),
    row('1,024 Services in turn, new flow', { vips: 1024, flows: NEW_FLOWS, warmUp: 100_000 }),
  ];

  open(): void {
    this.load(benchSizes(SERVICES)).apply(Array.from({ length: SERVICES }, (_, n) => portOf(n, ['10.244.1.2', '10.244.1.3'])));
  }

  round(rows: readonly FrontendRow[]): Sample[] {
    const { harness, loaded } = this;
    return rows.map(({ vips, flows, warmUp }) => {
      const run = { destination: vip(0), flows, warmUp, repeat: REPEAT, isTranslated: true };
      const program = loaded.datapath.program('tc_pod_in');
      const [theirs = NaN] = harness.net([program], { ...run, vips: 1 });
      const [ours = NaN] = harness.net([program], { ...run, vips });
      return { ours, theirs };
    });
  }
}
