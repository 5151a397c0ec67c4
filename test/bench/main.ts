// SPDX-License-Identifier: Apache-2.0
// `npm run bench`: measures each row and its yardstick in interleaved rounds, and reports the ratio with its interval. Writes
// test/bench/RESULTS.md and results.json. `--compare FILE` compares this run with an earlier results.json, and `--only REGEX` selects
// rows. `--scale` runs only the rows of a large cluster with a real API server, `--large` only those of larger clusters with its
// double. The benchmarks create their own namespaces, cgroups and bpffs, and remove them at the end. They must never send a packet
// outside these namespaces.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { libbpfVersion } from '../../daemon/kernel/object.ts';
import { FrontendBench } from './frontend-rows.ts';
import { HookBench } from './hook-rows.ts';
import { LargeBench } from './large-rows.ts';
import { MemoryBench } from './memory-rows.ts';
import { SnatBench } from './snat-rows.ts';
import { PathBench } from './path-rows.ts';
import { compare, largeReport, partsOf, report, scaleReport, table, textOf } from './report.ts';
import { type Group, type Result, resultOf, type Row, type Sample } from './row.ts';
import { ScaleBench } from './scale-rows.ts';
import { SituBench } from './situ-rows.ts';
import { TcBench } from './tc-rows.ts';

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '15' },
    only: { type: 'string', default: '' },
    scale: { type: 'boolean', default: false },
    large: { type: 'boolean', default: false },
    // Number of Services of the rows at scale in a trial run. The results of a trial run are not written.
    services: { type: 'string' },
    compare: { type: 'string' },
    'no-write': { type: 'boolean', default: false },
  },
});

const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Each command replaces its own part of RESULTS.md and its own rows in results.json, and leaves the rest unchanged. */
type Command = 'main' | 'scale' | 'large';
const command: Command = values.scale ? 'scale' : values.large ? 'large' : 'main';
const rowsOfCommand: Readonly<Record<Exclude<Command, 'main'>, ReadonlySet<string>>> = {
  scale: new Set(new ScaleBench({ services: 0, endpoints: 0 }, say).rows.map(({ name }) => name)),
  large: new Set(new LargeBench(say).rows.map(({ name }) => name)),
};
const commandOf = (row: string): Command => (rowsOfCommand.scale.has(row) ? 'scale' : rowsOfCommand.large.has(row) ? 'large' : 'main');

let interrupted: NodeJS.Signals | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (interrupted = signal));

/** Notes in Markdown of the groups that ran. The report contains them. */
const notes: string[] = [];

async function measure<R extends Row>(group: Group<R>, rounds: number): Promise<Result[]> {
  const rows = group.rows.filter(({ name }) => new RegExp(values.only).test(name));
  if (rows.length === 0) return [];
  const samples: Sample[][] = [];
  try {
    say(`${rows.map(({ name }) => name).join('; ')}`);
    await group.open(rows);
    for (let round = 1; round <= Math.min(rounds, group.mostRounds ?? rounds); round += 1) {
      say(`  round ${round}`);
      samples.push(await group.round(rows, round));
      // Lets signal handlers run between two rounds, so that an interrupted benchmark removes everything.
      await new Promise(setImmediate);
      if (interrupted !== undefined) throw new Error(`The benchmark was interrupted by ${interrupted}.`);
    }
    const note = group.notes?.() ?? '';
    if (note !== '') notes.push(note);
  } finally {
    await group.close();
  }
  return rows.map((row, index) =>
    resultOf(
      row,
      samples.map((round) => round[index] ?? { ours: NaN, theirs: NaN }),
    ),
  );
}

const version = (program: string, ...args: readonly string[]): string => execFileSync(program, args, { encoding: 'utf8' }).trim();

async function run(): Promise<number> {
  const load = loadavg()
    .map((each) => each.toFixed(2))
    .join(' ');
  say(`The load average is ${load} on ${cpus().length} CPUs.`);
  if ((loadavg()[0] ?? 0) > 0.5) say('WARNING: The machine is busy. The results are not reliable.');
  const began = performance.now();
  const rounds = Number(values.rounds);
  const measureAll: Readonly<Record<Command, (count: number) => Promise<Result[]>>> = {
    ...{ main: usual, scale: atScale, large: (count) => measure(new LargeBench(say), count) },
  };
  const results = await measureAll[command](rounds);
  console.log([table(results), ...notes].join('\n\n'));
  if (values.compare !== undefined) return compare(results, JSON.parse(readFileSync(values.compare, 'utf8')) as Result[]) === 0 ? 0 : 1;
  if (values['no-write'] || values.only !== '' || values.services !== undefined) return 0;
  const at = {
    ...{ date: new Date().toISOString().slice(0, 10), rounds, load, minutes: (performance.now() - began) / 60_000 },
    machine: `${cpus().length} x ${cpus()[0]?.model ?? 'CPU'}, Linux ${release()}`,
    versions: `Node.js ${process.version}, libbpf ${libbpfVersion()}, ${version('nft', '--version')}, ${version('clang-19', '--version').split('\n')[0]}`,
    commit: version('git', 'describe', '--always', '--dirty'),
  };
  const path = join(import.meta.dirname, 'RESULTS.md');
  const before = partsOf(readFileSync(path, 'utf8'));
  const texts: Readonly<Record<Command, () => string>> = {
    main: () => report(results, notes.join('\n\n'), at),
    scale: () => scaleReport(results, at),
    large: () => largeReport(results, at),
  };
  writeFileSync(path, textOf({ ...before, [command]: texts[command]() }));
  writeResults(results);
  return 0;
}

async function usual(rounds: number): Promise<Result[]> {
  // These groups must run before the groups that use BPF_PROG_TEST_RUN, which move this process into another network namespace.
  const situ = await measure(new SituBench(), rounds);
  const last = [...(await measure(new PathBench(), rounds)), ...(await measure(new MemoryBench(), rounds))];
  return [
    ...(await measure(new TcBench(), rounds)),
    ...(await measure(new FrontendBench(), rounds)),
    ...(await measure(new SnatBench(), rounds)),
    ...(await measure(new HookBench(), rounds)),
    ...situ,
    ...last,
  ];
}

function atScale(rounds: number): Promise<Result[]> {
  const services = Number(values.services ?? 10_000);
  return measure(new ScaleBench({ services, endpoints: 10 }, say), rounds);
}

/** Writes results.json. The rows of the other commands do not change. */
function writeResults(results: readonly Result[]): void {
  const path = join(import.meta.dirname, 'results.json');
  const kept = (JSON.parse(readFileSync(path, 'utf8')) as Result[]).filter(({ row }) => commandOf(row) !== command);
  const of = (each: Command): readonly Result[] => (each === command ? results : kept.filter(({ row }) => commandOf(row) === each));
  writeFileSync(path, `${JSON.stringify([...of('main'), ...of('scale'), ...of('large')], undefined, 1)}\n`);
}

process.exitCode = await run();
