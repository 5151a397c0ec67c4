// SPDX-License-Identifier: Apache-2.0
// A day's churn in minutes (`npm run stress`): one daemon, 20,000 seeded operations on Services, slices, devices and broken
// files, and twenty checkpoints at which the same objects are in force again. There descriptors, pins, programs, ids and slots
// must be what they were at the first, and memory must not grow. Everything is in a lab of its own.
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { seededRandom } from '../fake-clock.ts';
import { Daemon, service, slices } from '../lab/daemon.ts';
import { Lab } from '../lab/lab.ts';
import { sh } from '../lab/shell.ts';

const { values } = parseArgs({ options: { operations: { type: 'string', default: '20000' }, seed: { type: 'string', default: '1' } } });
const operations = Number(values.operations);
const CHECKPOINTS = 20;
/** The first checkpoints see code being compiled and heaps finding their size. */
const WARM_UP = 4;
const MEMORY_GROWTH = 1.1;
const SERVICES = 60;
const PER_FILE = 5;
const MOST_BACKENDS = 40;
const PACE_MS = 4;
const SETTLE_MS = 30_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The objects, as files of five Services each. */
class Objects {
  readonly #source: string;
  /** Number of backends by Service; undefined: there is no such Service. */
  #backends: (number | undefined)[] = [];

  constructor(source: string) {
    this.#source = source;
    this.reset();
  }

  /** The set that is in force at every checkpoint. */
  reset(): void {
    this.#backends = Array.from({ length: SERVICES }, (_, n) => 1 + (n % 7));
    for (let n = 0; n < SERVICES; n += PER_FILE) this.#write(n);
  }

  set(n: number, backends: number | undefined): void {
    this.#backends[n] = backends;
    this.#write(n);
  }

  /** Half a document in place of the file of Service n, then the whole again. */
  break(n: number): void {
    writeFileSync(this.#path(n), '{"kind": "List", "items": [');
    this.#write(n);
  }

  #path(n: number): string {
    return join(this.#source, `services-${Math.floor(n / PER_FILE)}.json`);
  }

  #write(n: number): void {
    const first = n - (n % PER_FILE);
    const items = this.#backends.slice(first, first + PER_FILE).flatMap((backends, i) => {
      const number = first + i;
      if (backends === undefined) return [];
      const addresses = { IPv4: `10.96.1.${number}`, IPv6: `fd00:96::1:${number.toString(16)}` };
      const pods = Array.from({ length: backends }, (_, b) => ({
        IPv4: `10.245.${number}.${b + 1}`,
        IPv6: `fd00:245:${number}::${b + 1}`,
      }));
      return [service(`s${number}`, addresses), ...slices(`s${number}`, pods)];
    });
    const partial = join(this.#source, '.partial');
    writeFileSync(partial, JSON.stringify({ apiVersion: 'v1', kind: 'List', items }));
    renameSync(partial, this.#path(n));
  }
}

interface Sample {
  readonly rssMiB: number;
  readonly counts: Readonly<Record<string, number>>;
}

interface StatusJson {
  readonly reconcile: { readonly pending: string; readonly error: string };
  readonly maps: readonly { readonly name: string; readonly used: string }[];
}

/** The daemon's log must be read meanwhile, or it waits for us when the pipe is full: no blocking call to it. */
async function statusOf(lab: Lab, daemon: Daemon): Promise<StatusJson> {
  const asked = lab.start('node', daemon.command('status', '-o', 'json'));
  await asked.ended;
  const text = asked.lines.join('\n');
  // It ends with 1 when something is degraded, which may be.
  if (!text.startsWith('{')) throw new Error(`sluice status said: ${text}`);
  return JSON.parse(text) as StatusJson;
}

async function sample(lab: Lab, daemon: Daemon): Promise<Sample> {
  const pid = daemon.process?.pid ?? 0;
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
  const status = await statusOf(lab, daemon);
  const pinned = (what: string): number =>
    (JSON.parse(sh('bpftool', '-j', '-f', what, 'show')) as { pinned?: string[] }[]).filter((each) =>
      each.pinned?.some((path) => path.startsWith(lab.bpffs)),
    ).length;
  const used = status.maps.filter((map) => Number(map.used) >= 0).map((map) => [map.name, Number(map.used)] as const);
  return {
    rssMiB: rss,
    counts: {
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      pins: readdirSync(join(lab.bpffs, 'sluice'), { recursive: true }).length,
      links: pinned('link'),
      maps: pinned('map'),
      ...Object.fromEntries(used),
      waiting: Number(status.reconcile.pending) + Number(status.reconcile.error),
    },
  };
}

const textOf = (counts: Sample['counts']): string => Object.values(counts).join(' ');

/** The sample once it is as it should be; the last one when that does not come. */
async function quiet(lab: Lab, daemon: Daemon, wanted: Sample | undefined): Promise<Sample> {
  let last = await sample(lab, daemon);
  for (const until = Date.now() + SETTLE_MS; Date.now() < until;) {
    await pause(500);
    const now = await sample(lab, daemon);
    const isSteady = textOf(now.counts) === textOf(wanted?.counts ?? last.counts) && now.counts['waiting'] === 0;
    last = now;
    if (isSteady) break;
  }
  return last;
}

function operate(lab: Lab, objects: Objects, random: () => number): void {
  const below = (limit: number): number => Math.floor(random() * limit);
  const n = below(SERVICES);
  const kind = below(100);
  if (kind === 0) objects.break(n);
  else if (kind === 1) {
    lab.ip('node', 'link', 'add', 'lxcsoak', 'type', 'veth', 'peer', 'name', 'soakpeer');
    lab.ip('node', 'link', 'delete', 'lxcsoak');
  } else if (kind < 15) objects.set(n, undefined);
  else objects.set(n, below(MOST_BACKENDS));
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

async function soak(lab: Lab): Promise<boolean> {
  for (const number of [1, 2]) lab.addPod(number);
  const daemon = new Daemon(lab);
  const objects = new Objects(daemon.source);
  await daemon.start({ hasSocketLb: true, extra: ['--log-level', 'info'] });
  const random = seededRandom(Number(values.seed));
  const samples: Sample[] = [];
  const began = performance.now();
  for (let checkpoint = 0; checkpoint < CHECKPOINTS; checkpoint += 1) {
    for (let i = 0; i < operations / CHECKPOINTS; i += 1) {
      operate(lab, objects, random);
      await pause(PACE_MS);
    }
    objects.reset();
    const found = await quiet(lab, daemon, samples[0]);
    samples.push(found);
    if (checkpoint === 0) console.log(`operations  seconds  RSS MiB  ${Object.keys(found.counts).join(' ')}`);
    const done = ((checkpoint + 1) * operations) / CHECKPOINTS;
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(
      `${String(done).padStart(10)}  ${String(seconds).padStart(7)}  ${found.rssMiB.toFixed(1).padStart(7)}  ${textOf(found.counts)}`,
    );
  }
  const steady = samples.slice(WARM_UP).map(({ rssMiB }) => rssMiB);
  const half = steady.length >> 1;
  const growth = median(steady.slice(half)) / median(steady.slice(0, half));
  const isEqual = samples.every(({ counts }) => textOf(counts) === textOf(samples[0]?.counts ?? {}));
  console.log(`counts ${isEqual ? 'equal at every checkpoint' : 'DIFFER'}; memory x ${growth.toFixed(3)} from one half to the other`);
  return isEqual && growth <= MEMORY_GROWTH;
}

const lab = new Lab();
try {
  process.exitCode = (await soak(lab)) ? 0 : 1;
} finally {
  await lab.close();
}
