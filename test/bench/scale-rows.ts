// SPDX-License-Identifier: Apache-2.0
// The rows at scale compare sluiced with the real kube-proxy in a large cluster with a real API server. They measure cold start,
// memory, the latency of a change, and churn. In every round both proxies run one after the other with the same objects,
// credentials and changes, and each starts without earlier state. main.ts runs these rows with --scale.
import { buildTools } from '../cluster/tools.ts';
import { LARGER_FACTOR, type Figures, ScaleCluster, type SluicedFigures } from './scale/cluster.ts';
import type { LargerFigures, Size } from './scale/double-cluster.ts';
import { SCALE_ROUNDS } from './report.ts';
import type { Goal, Group, Row, Sample } from './row.ts';

/** The figures of one round. */
interface Measured {
  readonly sluiced: SluicedFigures;
  readonly kubeProxy: Figures;
  readonly larger: LargerFigures;
}

interface ScaleRow extends Row {
  readonly ours: (measured: Measured) => number;
  readonly theirs: (measured: Measured) => number;
}

type GoalShape = Omit<Goal, 'side'>;
const noMore: GoalShape = { of: 'ratio', limit: 1 };
const atMost = (limit: number): GoalShape => ({ of: 'ours', limit });

/** The name of a row and its unit. */
type Title = readonly [name: string, unit: string];

const beside = ([name, unit]: Title, goal: GoalShape, of: (figures: Figures) => number): ScaleRow => ({
  ...{ name, unit, yardstick: 'kube-proxy', goal: { ...goal, side: 'atMost' } },
  ...{ ours: ({ sluiced }) => of(sluiced), theirs: ({ kubeProxy }) => of(kubeProxy) },
});

/**
 * A row for the time from the write of a change until the change is programmed, when changes are made one at a time. For sluiced,
 * witness.ts measures this time. For kube-proxy, it comes from kube-proxy's own metric.
 */
const single = (name: string, goal: GoalShape, ours: (figures: SluicedFigures) => number): ScaleRow => ({
  ...{ name: `one slice changed: ${name}`, unit: 'ms', yardstick: 'kube-proxy, from the write', goal: { ...goal, side: 'atMost' } },
  ...{ ours: ({ sluiced }) => ours(sluiced), theirs: ({ kubeProxy }) => kubeProxy.one.p99 },
});

type Third = SluicedFigures['thirds'][number];

const growth = ([name, unit]: Title, limit: number, of: (third: Third) => number): ScaleRow => ({
  ...{ name: `churn, last third: ${name}`, unit, yardstick: 'itself, first third', goal: { of: 'ratio', limit, side: 'atMost' } },
  ours: ({ sluiced: { thirds } }) => valueAt(thirds, -1, of),
  theirs: ({ sluiced: { thirds } }) => valueAt(thirds, 0, of),
});

/** A row for LARGER_FACTOR times as many Services. The yardstick is LARGER_FACTOR times the cost of the smaller cluster. */
const linear = ([name, unit]: Title, of: (found: LargerFigures) => number): ScaleRow => ({
  ...{ name: `${LARGER_FACTOR} times the Services: ${name}`, unit, yardstick: `${LARGER_FACTOR} times itself` },
  goal: { of: 'ratio', limit: 1.2, side: 'atMost' },
  ...{ ours: ({ larger }) => of(larger), theirs: ({ sluiced }) => LARGER_FACTOR * of(sluiced) },
});

const valueAt = (thirds: readonly Third[], index: number, of: (third: Third) => number): number => {
  const third = thirds.at(index);
  return third === undefined ? NaN : of(third);
};

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

export class ScaleBench implements Group<ScaleRow> {
  readonly rows = [
    beside(['cold start: CPU until all Services are programmed', 's'], atMost(2), ({ cold }) => cold.cpuSeconds),
    beside(['cold start: time until all Services are programmed', 's'], noMore, ({ cold }) => cold.seconds),
    beside(['cold start: time after the last list page', 's'], atMost(1.5), ({ cold }) => cold.secondsAfterList),
    beside(['RSS, steady, at scale', 'MiB'], atMost(220), ({ rssMiB }) => rssMiB),
    single('p99 after the watch event', atMost(5), ({ afterEvent }) => afterEvent),
    single("p99 after the API's answer", noMore, ({ afterAnswer }) => afterAnswer),
    single('p99 after the write', noMore, ({ one }) => one.p99),
    beside(['one slice changed: p50 after the write', 'ms'], noMore, ({ one }) => one.p50),
    beside(['one slice changed: network programming, mean', 'ms'], noMore, ({ one }) => one.mean),
    beside(['churn: CPU', '% of a core'], noMore, ({ thirds }) => meanOf(thirds.map(({ cpuPercent }) => cpuPercent))),
    beside(['churn: p50 after the write', 'ms'], noMore, ({ churn }) => churn.p50),
    beside(['churn: p99 after the write', 'ms'], noMore, ({ churn }) => churn.p99),
    beside(['churn: network programming, mean', 'ms'], noMore, ({ churn }) => churn.mean),
    growth(['p99 after the write', 'ms'], 1.5, ({ p99 }) => p99),
    growth(['CPU', '% of a core'], 1.25, ({ cpuPercent }) => cpuPercent),
    growth(['delay of the event loop, p99', 'ms'], 1.5, ({ delayMs }) => delayMs),
    growth(['garbage collection', 'ms/s'], 1.25, ({ gcMsPerSecond }) => gcMsPerSecond),
    growth(['RSS', 'MiB'], 1.1, ({ rssMiB }) => rssMiB),
    linear(['CPU until all are programmed', 's'], ({ cold }) => cold.cpuSeconds),
    linear(['time after the last list page', 's'], ({ cold }) => cold.secondsAfterList),
    linear(['RSS', 'MiB'], ({ rssMiB }) => rssMiB),
  ];
  readonly mostRounds = SCALE_ROUNDS;
  readonly #size: Size;
  readonly #say: (text: string) => void;
  #cluster: ScaleCluster | undefined;

  constructor(size: Size, say: (text: string) => void) {
    this.#size = size;
    this.#say = say;
  }

  async open(): Promise<void> {
    buildTools();
    this.#cluster = await ScaleCluster.start(this.#size, this.#say);
  }

  async round(rows: readonly ScaleRow[]): Promise<Sample[]> {
    if (this.#cluster === undefined) throw new Error('open() was not called');
    const sluiced = await this.#cluster.measureSluiced();
    this.#say(`  sluiced ${JSON.stringify(sluiced)}`);
    const kubeProxy = await this.#cluster.measureKubeProxy();
    this.#say(`  kube-proxy ${JSON.stringify(kubeProxy)}`);
    const larger = await this.#cluster.measureLarger();
    this.#say(`  larger ${JSON.stringify(larger)}`);
    return rows.map(({ ours, theirs }) => ({ ours: ours({ sluiced, kubeProxy, larger }), theirs: theirs({ sluiced, kubeProxy, larger }) }));
  }

  async close(): Promise<void> {
    await this.#cluster?.close();
  }
}
