// SPDX-License-Identifier: Apache-2.0
// The veth rows: TCP connections and UDP packets through a ClusterIP, compared with direct traffic between the same pods on the same
// node. The nodes are measured in turn. All traffic stays in network namespaces. main.ts runs them. connect() has two modes: it finds
// the SYN-ACK at once, or it sleeps until the SYN-ACK arrives. The difference between the modes is larger than the overhead of a
// ClusterIP, so each mode is compared separately. To make both modes occur, another CPU handles the packets to the client for a part
// of each round.
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { compile } from './harness.ts';
import { availableParallelism, tmpdir } from 'node:os';
import { BenchNode, type Connects, type Destination, type Steering, type Way } from './node.ts';
import { figure } from './report.ts';
import type { Goal, Group, Row, Sample } from './row.ts';
import { median } from './stats.ts';

const CONNECT_MS: Readonly<Record<Steering, number>> = { sender: 700, second: 400 };
const FLOOD_MS = 300;
/** Minimum number of connections in a mode. With fewer connections in a round, the mode has no p50 in this round. */
const FEWEST_CONNECTIONS = 100;

type Metric = 'inside' | 'slept' | 'cpu' | 'rate' | 'packets';

interface PathRow extends Row {
  readonly metric: Metric;
  readonly way: Way;
  /** The node whose direct traffic is the yardstick. */
  readonly beside: Way;
}

const units: Record<Metric, string> = { inside: 'us', slept: 'us', cpu: 'us', rate: '1/s', packets: '1/s' };

const row = (name: string, metric: Metric, goal: Omit<Goal, 'of' | 'side'> & { way: Way; beside?: Way }): PathRow => {
  const { way, beside = way, limit } = goal;
  return {
    ...{ name: `${name}, 10,000 Services, ${way}`, metric, way, beside, unit: units[metric] },
    yardstick: beside === way ? 'direct, same node' : 'direct, node without programs',
    goal: { of: 'ratio', limit, side: metric === 'rate' || metric === 'packets' ? 'atLeast' : 'atMost' },
  };
};

const rowsOf = (way: 'socket' | 'tc', limit: number): PathRow[] => [
  row('connect p50, SYN-ACK found at once', 'inside', { way, limit }),
  row('connect p50, SYN-ACK after a sleep', 'slept', { way, limit }),
  row('CPU per connection', 'cpu', { way, limit: 1.1 }),
  row('CPU per connection, including idle programs', 'cpu', { way, beside: 'bare', limit: 1.1 }),
  row('connections', 'rate', { way, limit: 0.9 }),
];

const microseconds = (side: Connects, metric: 'inside' | 'slept' | 'cpu'): number => {
  if (metric === 'cpu') return (side.clientNs + side.serverNs) / side.count / 1000;
  return side[metric].count < FEWEST_CONNECTIONS ? NaN : side[metric].p50 / 1000;
};

/**
 * The steering with which a metric is measured. Each mode has the steering with which it occurs most often. CPU time is measured without
 * steering, because the CPU clock of a process does not include work that another CPU does for the process.
 */
const steeringOf = (metric: Exclude<Metric, 'packets'>): Steering => (metric === 'slept' ? 'second' : 'sender');
const steerings: readonly Steering[] = availableParallelism() > 1 ? ['sender', 'second'] : ['sender'];

type Steered = Readonly<Partial<Record<Steering, Readonly<Record<Destination, Connects>>>>>;

/** The figures that one node measured in one round. */
interface Measured {
  readonly connects?: Steered;
  readonly packets?: Readonly<Record<Destination, number>>;
}

const names: Record<Way, string> = { bare: 'without programs', socket: 'socket', tc: 'tc', nft: 'nftables' };

export class PathBench implements Group<PathRow> {
  readonly rows = [...rowsOf('socket', 1.06), ...rowsOf('tc', 1.1), row('UDP packets', 'packets', { way: 'tc', limit: 0.9 })];
  readonly #nodes: BenchNode[] = [];
  readonly #rounds: ReadonlyMap<Way, Measured>[] = [];
  #directory = '';

  async open(rows: readonly PathRow[]): Promise<void> {
    this.#directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const peer = compile('peer.c', this.#directory);
    for (const way of new Set<Way>(['bare', 'nft', ...rows.map((each) => each.way)])) {
      const node = new BenchNode(way, peer);
      this.#nodes.push(node);
      await node.open();
    }
  }

  async round(rows: readonly PathRow[], number: number): Promise<Sample[]> {
    const taken = new Map<Way, Measured>();
    const hasPackets = rows.some(({ metric }) => metric === 'packets');
    const hasConnects = rows.some(({ metric }) => metric !== 'packets');
    // The order of the nodes rotates from round to round.
    const first = number % this.#nodes.length;
    for (const node of [...this.#nodes.slice(first), ...this.#nodes.slice(0, first)]) {
      taken.set(node.way, {
        ...(hasConnects ? { connects: await connects(node) } : {}),
        ...(hasPackets && (node.way === 'tc' || node.way === 'nft') ? { packets: await floods(node, number) } : {}),
      });
    }
    this.#rounds.push(taken);
    return rows.map(({ way, metric, beside }) => ({
      ours: figureOf(taken.get(way), metric, 'vip'),
      theirs: figureOf(taken.get(beside), metric, 'direct'),
      peer: figureOf(taken.get('nft'), metric, 'vip'),
      peerTheirs: figureOf(taken.get(beside === way ? 'nft' : beside), metric, 'direct'),
    }));
  }

  /** Tables of both modes of connect() on every node. */
  notes(): string {
    const lines = steerings.flatMap((steering) => this.#nodes.flatMap((node) => this.#modesOf(node.way, steering)));
    if (lines.length === 0) return '';
    const titles = [
      'packets to the client are handled by',
      'node',
      'connections',
      'found at once',
      'p50 of these, us',
      'p50 after a sleep, us',
    ];
    const head = `| ${[...titles, 'all, p50, us', 'p99, us', 'CPU of client + servers, us'].join(' | ')} |`;
    return ['Both modes of connect(), medians of the rounds:', '', head, `|${'---|'.repeat(9)}`, ...lines].join('\n');
  }

  /** The lines of the table for one node. */
  #modesOf(way: Way, steering: Steering): string[] {
    const rounds = this.#rounds.flatMap((round) => round.get(way)?.connects?.[steering] ?? []);
    if (rounds.length === 0) return [];
    const destinations: readonly Destination[] = way === 'bare' ? ['direct'] : ['vip', 'direct'];
    return destinations.map((destination) => {
      const title = `${steering === 'sender' ? "the sender's CPU" : 'the second CPU'} | ${names[way]} | ${destination === 'vip' ? 'to the VIP' : 'direct'}`;
      return modesLine(
        title,
        rounds.map((each) => each[destination]),
        steering === 'sender',
      );
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.close()));
    if (this.#directory !== '') rmSync(this.#directory, { recursive: true });
  }
}

async function connects(node: BenchNode): Promise<Steered> {
  const found: Partial<Record<Steering, Readonly<Record<Destination, Connects>>>> = {};
  for (const steering of steerings) found[steering] = await node.connect(CONNECT_MS[steering], steering);
  return found;
}

/** Floods of datagrams to both destinations. Their order changes from round to round. */
async function floods(node: BenchNode, round: number): Promise<Record<Destination, number>> {
  const order: readonly Destination[] = round % 2 === 0 ? ['vip', 'direct'] : ['direct', 'vip'];
  const found = { vip: NaN, direct: NaN };
  for (const destination of order) found[destination] = await node.flood(FLOOD_MS, destination);
  return found;
}

function figureOf(measured: Measured | undefined, metric: Metric, destination: Destination): number {
  if (metric === 'packets') return measured?.packets?.[destination] ?? NaN;
  const side = measured?.connects?.[steeringOf(metric)]?.[destination];
  if (side === undefined) return NaN;
  return metric === 'rate' ? side.count / side.seconds : microseconds(side, metric);
}

function modesLine(title: string, sides: readonly Connects[], hasCpu: boolean): string {
  const middle = (of: (side: Connects) => number): string => figure(median(sides.map(of).filter(Number.isFinite)));
  const cpu = `${middle(({ clientNs, count }) => clientNs / count / 1000)} + ${middle(({ serverNs, count }) => serverNs / count / 1000)}`;
  const cells = [
    ...[title, `${middle(({ inside, count }) => (100 * inside.count) / count)} %`],
    ...[middle((side) => microseconds(side, 'inside')), middle((side) => microseconds(side, 'slept'))],
    ...[middle(({ p50 }) => p50 / 1000), middle(({ p99 }) => p99 / 1000), hasCpu ? cpu : ''],
  ];
  return `| ${cells.join(' | ')} |`;
}
