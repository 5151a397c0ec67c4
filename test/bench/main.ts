// SPDX-License-Identifier: Apache-2.0
// `npm run bench`: rows of design.md, 6, each beside its yardstick in interleaved rounds, as ratios with their intervals.
// Writes test/bench/RESULTS.md and results.json; `--compare FILE` sets this run against an earlier results.json.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { interval, type Interval, isRegression, median, verdict } from './stats.ts';
import { TcBench, type TcRow, tcRows } from './tc-rows.ts';

interface Result {
  readonly row: string;
  readonly yardstick: string;
  readonly goal: number;
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: Interval;
  readonly verdict: string;
}

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '15' }, compare: { type: 'string' }, 'no-write': { type: 'boolean' } },
});

function measureAll(rounds: number): Result[] {
  const bench = new TcBench();
  const taken = new Map<TcRow, { ours: number; floor: number }[]>(tcRows.map((row) => [row, []]));
  try {
    for (let round = 1; round <= rounds; round += 1) {
      process.stderr.write(`round ${round} of ${rounds}\n`);
      for (const row of tcRows) taken.get(row)?.push(bench.measure(row));
    }
  } finally {
    bench.close();
  }
  return tcRows.map((row) => {
    const samples = taken.get(row) ?? [];
    const ratio = interval(samples.map(({ ours, floor }) => ours / floor));
    const [ours, theirs] = [median(samples.map((each) => each.ours)), median(samples.map((each) => each.floor))];
    return { row: row.name, yardstick: row.yardstick, goal: row.goal, ours, theirs, ratio, verdict: verdict(ratio, row.goal) };
  });
}

const ratioText = ({ low, median: middle, high }: Interval): string => `${middle.toFixed(2)} (${low.toFixed(2)}-${high.toFixed(2)})`;

function table(results: readonly Result[]): string {
  const lines = results.map(
    (each) =>
      `| ${each.row} | ${each.yardstick} | ${Math.round(each.ours)} | ${Math.round(each.theirs)} | ${ratioText(each.ratio)} | <= ${each.goal} | ${each.verdict} |`,
  );
  return ['| row | yardstick | ours, ns | yardstick, ns | ratio (95 %) | goal | verdict |', '|---|---|---|---|---|---|---|', ...lines].join(
    '\n',
  );
}

function report(results: readonly Result[], rounds: number): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  return `# Bench results

Made by \`npm run bench\` on ${new Date().toISOString().slice(0, 10)}: ${cpus().length} x ${cpus()[0]?.model ?? 'CPU'}, Linux ${release()}, Node.js ${process.version},
commit ${commit}, ${rounds} interleaved rounds of 1,000,000 packets a cell.

${table(results)}

Net ns per packet: BPF_PROG_TEST_RUN of a wrapper that restores the headers, steps through the flows and calls the program, less the
same with an empty program. The floor (yardstick.bpf.c) is the smallest tc program that does the job for IPv4 TCP: VIP hash, two LRU rows
a flow, DNAT, checksum helpers, redirect; same map sizes, 1,000 VIPs, 1,048,576 flow rows. Ratios are per round; the interval is that of
their median, by bootstrap. No NIC, no driver: ratios and regressions only. The machine is shared and noisy.

Met: the interval's upper end meets the goal; missed: its lower end exceeds it; else undecided. A regression, for \`npm run bench -- --compare
test/bench/results.json\`: the intervals do not overlap and the median ratio grew by more than 10 %.
`;
}

function compare(results: readonly Result[], path: string): number {
  const before = JSON.parse(readFileSync(path, 'utf8')) as Result[];
  let worse = 0;
  for (const now of results) {
    const then = before.find((each) => each.row === now.row);
    if (then === undefined) continue;
    const isWorse = isRegression(then.ratio, now.ratio);
    worse += Number(isWorse);
    console.log(`${isWorse ? 'WORSE' : 'ok   '}  ${now.row}: ${ratioText(then.ratio)} -> ${ratioText(now.ratio)}`);
  }
  return worse === 0 ? 0 : 1;
}

const rounds = Number(values.rounds);
const results = measureAll(rounds);
console.log(table(results));
if (values['no-write'] !== true && values.compare === undefined) {
  writeFileSync(join(import.meta.dirname, 'RESULTS.md'), report(results, rounds));
  writeFileSync(join(import.meta.dirname, 'results.json'), `${JSON.stringify(results, undefined, 1)}\n`);
}
process.exit(values.compare === undefined ? 0 : compare(results, values.compare));
