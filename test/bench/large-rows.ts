// SPDX-License-Identifier: Apache-2.0
// Measures cold start and memory of sluiced in very large clusters, with the API server double. In clusters of these sizes the first
// sync of kube-proxy took a quarter of an hour (kubernetes/kubernetes#135639, #139513). The yardstick is a cluster of the size of the
// rows at scale, measured in every round, because the cost must not grow faster than the number of Services or endpoints. main.ts runs
// these rows with --large.
import { Lab } from '../support/lab/lab.ts';
import type { Group, Row, Sample } from './row.ts';
import { DoubleCluster, type LargerFigures, type Size } from './scale/double-cluster.ts';

type Cluster = 'base' | 'endpoints' | 'services';

const sizes: Readonly<Record<Cluster, Size>> = {
  base: { services: 10_000, endpoints: 10 },
  // kubernetes/kubernetes#135639: 5,006 Services with 250,011 endpoints.
  endpoints: { services: 5000, endpoints: 50 },
  // kubernetes/kubernetes#139513: 44,128 Services with 44,131 endpoints.
  services: { services: 44_000, endpoints: 1 },
};

const titles = {
  endpoints: { title: '5,000 Services with 250,000 endpoints', factor: 2.5 },
  services: { title: '44,000 Services with one endpoint each', factor: 4.4 },
} as const;

interface LargeRow extends Row {
  readonly cluster: keyof typeof titles;
  readonly factor: number;
  readonly of: (figures: LargerFigures) => number;
}

const rowsOf = (cluster: keyof typeof titles): LargeRow[] => {
  const { title, factor } = titles[cluster];
  const row = (name: string, unit: string, of: LargeRow['of']): LargeRow => ({
    ...{ name: `${title}: ${name}`, unit, yardstick: `${factor} x 10,000 Services of 10`, cluster, factor, of },
    goal: { of: 'ratio', limit: 1.2, side: 'atMost' },
  });
  return [
    row('CPU until all are programmed', 's', ({ cold }) => cold.cpuSeconds),
    row('time until all are programmed', 's', ({ cold }) => cold.seconds),
    row('RSS', 'MiB', ({ rssMiB }) => rssMiB),
  ];
};

/** Number of rounds. A round consists of three cold starts. */
export const LARGE_ROUNDS = 3;

export class LargeBench implements Group<LargeRow> {
  readonly rows = [...rowsOf('endpoints'), ...rowsOf('services')];
  readonly mostRounds = LARGE_ROUNDS;
  readonly #say: (text: string) => void;
  readonly #doubles = new Map<Cluster, DoubleCluster>();
  #lab: Lab | undefined;

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  async open(rows: readonly LargeRow[]): Promise<void> {
    const lab = new Lab();
    this.#lab = lab;
    lab.addPod(1);
    for (const name of new Set<Cluster>(['base', ...rows.map(({ cluster }) => cluster)])) {
      this.#doubles.set(name, await DoubleCluster.start(lab, name, sizes[name]));
      this.#say(`  a double has ${sizes[name].services} Services of ${sizes[name].endpoints} endpoints`);
    }
    await this.#doubles.get('base')?.warmUp();
  }

  async round(rows: readonly LargeRow[]): Promise<Sample[]> {
    const taken = new Map<Cluster, LargerFigures>();
    for (const [name, double] of this.#doubles) {
      const figures = await double.coldStart();
      taken.set(name, figures);
      this.#say(`  ${name} ${JSON.stringify(figures)}`);
    }
    const figureOf = (name: Cluster, of: LargeRow['of']): number => {
      const figures = taken.get(name);
      return figures === undefined ? NaN : of(figures);
    };
    return rows.map(({ cluster, factor, of }) => ({ ours: figureOf(cluster, of), theirs: factor * figureOf('base', of) }));
  }

  async close(): Promise<void> {
    await this.#lab?.close();
  }
}
