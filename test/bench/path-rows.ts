// SPDX-License-Identifier: Apache-2.0
// The veth rows: TCP connections and UDP packets through a ClusterIP, compared with direct routing on the same kind of veth and
// with nftables rules. Every round measures four nodes in turn, each for a fraction of a second. All traffic stays in network
// namespaces. main.ts runs them.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from './harness.ts';
import { BenchNode, type Way } from './node.ts';
import type { Goal, Group, Row, Sample } from './row.ts';

const CONNECT_MS = 500;
const FLOOD_MS = 400;
const MICROSECOND = 1000;

type Metric = 'p50' | 'rate' | 'packets';

interface PathRow extends Row {
  readonly metric: Metric;
  readonly way: Way;
}

const units: Record<Metric, string> = { p50: 'us', rate: '1/s', packets: '1/s' };

const row = (name: string, metric: Metric, goal: Omit<Goal, 'of'> & { way: Way }): PathRow => ({
  ...{ name, metric, way: goal.way, yardstick: 'direct routing', unit: units[metric] },
  goal: { of: 'ratio', limit: goal.limit, side: goal.side },
});

export class PathBench implements Group<PathRow> {
  readonly rows = [
    row('connect p50, 10,000 Services, socket', 'p50', { way: 'socket', limit: 1.06, side: 'atMost' }),
    row('connect p50, 10,000 Services, tc', 'p50', { way: 'tc', limit: 1.16, side: 'atMost' }),
    row('connections, 10,000 Services, socket', 'rate', { way: 'socket', limit: 0.9, side: 'atLeast' }),
    row('connections, 10,000 Services, tc', 'rate', { way: 'tc', limit: 0.9, side: 'atLeast' }),
    row('UDP packets, 10,000 Services, tc', 'packets', { way: 'tc', limit: 0.9, side: 'atLeast' }),
  ];
  readonly #nodes: BenchNode[] = [];
  #directory = '';

  async open(rows: readonly PathRow[]): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const peer = compile('peer.c', this.#directory);
    for (const way of new Set<Way>(['direct', 'nft', ...rows.map((each) => each.way)])) {
      const node = new BenchNode(way, peer);
      this.#nodes.push(node);
      await node.open();
    }
  }

  async round(rows: readonly PathRow[], number: number): Promise<Sample[]> {
    const taken = new Map<string, number>();
    const has = (...metrics: readonly Metric[]): boolean => rows.some(({ metric }) => metrics.includes(metric));
    // The order of the nodes rotates from round to round.
    const first = number % this.#nodes.length;
    for (const node of [...this.#nodes.slice(first), ...this.#nodes.slice(0, first)]) {
      if (has('p50', 'rate')) {
        const { p50, count, seconds } = await node.connect(CONNECT_MS);
        taken.set(`${node.way} p50`, p50 / MICROSECOND).set(`${node.way} rate`, count / seconds);
      }
      if (has('packets') && node.way !== 'socket') taken.set(`${node.way} packets`, await node.flood(FLOOD_MS));
    }
    const of = (way: Way, metric: Metric): number => taken.get(`${way} ${metric}`) ?? NaN;
    return rows.map(({ way, metric }) => ({ ours: of(way, metric), theirs: of('direct', metric), peer: of('nft', metric) }));
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.close()));
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true });
  }
}
