// SPDX-License-Identifier: Apache-2.0
// The soak of `npm run stress`: one daemon, 20,000 seeded operations on Services, slices, devices and the source, and twenty
// checkpoints. At each checkpoint the maps must match the objects. Then the initial objects are restored: the numbers of
// descriptors, pins, programs, ids and slots must equal those at the first checkpoint, and memory must not grow. `--source` is
// files or kubernetes. The soak must never change anything outside its lab.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import type { RawObject } from '../support/double/objects.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { type Daemon, type ListedService, service, slices } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { heldBy } from '../support/lab/bpf-objects.ts';
import { openPlace, type Place } from './places.ts';

const { values } = parseArgs({
  options: {
    operations: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    source: { type: 'string', default: 'files' },
  },
});
const operations = Number(values.operations);
const CHECKPOINTS = 20;
/** Memory is not compared at the first checkpoints, because code is still being compiled and heaps are still growing. */
const WARM_UP = 4;
const MEMORY_GROWTH = 1.1;
const SERVICES = 60;
const PER_GROUP = 5;
const MOST_BACKENDS = 40;
const PACE_MS = 4;
const SETTLE_MS = 30_000;
/** The first checkpoint requires this number of equal samples in a row, because all later checkpoints are compared with it. */
const FIRST_LOOKS = 5;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const podOf = (n: number, b: number) => ({ IPv4: `10.245.${n}.${b + 1}`, IPv6: `fd00:245:${n + 1}::${(b + 1).toString(16)}` });

/** The expected objects: which Services exist, and their numbers of backends. Writes every change to the source. */
class Objects {
  readonly #place: Place;
  /** Number of backends by Service; undefined if the Service does not exist. */
  #backends: (number | undefined)[] = [];

  constructor(place: Place) {
    this.#place = place;
  }

  /** Restores the initial objects. Called before the sample of each checkpoint. */
  async reset(): Promise<void> {
    this.#backends = Array.from({ length: SERVICES }, (_, n) => 1 + (n % 7));
    for (let n = 0; n < SERVICES; n += PER_GROUP) await this.#write(n);
  }

  async set(n: number, backends: number | undefined): Promise<void> {
    this.#backends[n] = backends;
    await this.#write(n);
  }

  /** Disturbs the source. */
  async disturb(n: number): Promise<void> {
    await this.#place.disturb(Math.floor(n / PER_GROUP), this.#group(n), n);
  }

  /** Backend addresses by Service port and family, as `sluice service list` must show them. */
  wanted(): Record<string, string[]> {
    const ports = ['web/TCP', 'dns/UDP'].flatMap((port) => (['IPv4', 'IPv6'] as const).map((family) => ({ port, family })));
    const entries = this.#backends.flatMap((backends, n) =>
      backends === undefined
        ? []
        : ports.map(({ port, family }) => [
            `default/s${n}:${port}/${family}`,
            Array.from({ length: backends }, (_, b) => podOf(n, b)[family]).toSorted(),
          ]),
    );
    return Object.fromEntries(entries) as Record<string, string[]>;
  }

  #write(n: number): Promise<void> {
    return this.#place.set(Math.floor(n / PER_GROUP), this.#group(n));
  }

  /** The objects of the group that Service n belongs to. */
  #group(n: number): RawObject[] {
    const first = n - (n % PER_GROUP);
    return this.#backends.slice(first, first + PER_GROUP).flatMap((backends, i) => {
      const number = first + i;
      if (backends === undefined) return [];
      const addresses = { IPv4: `10.96.1.${number}`, IPv6: `fd00:96::1:${number.toString(16)}` };
      const pods = Array.from({ length: backends }, (_, b) => podOf(number, b));
      return [service(`s${number}`, addresses), ...slices(`s${number}`, pods)] as RawObject[];
    });
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

/** The output of `sluice`. The call must not block, because the daemon blocks when the pipe of its log is full. */
async function ask<T>(lab: Lab, daemon: Daemon, ...args: readonly string[]): Promise<T> {
  const asked = lab.start('node', daemon.command(...args, '-o', 'json'));
  await asked.ended;
  const text = asked.lines.join('\n');
  // The exit code is 1 when something is degraded, which is allowed here.
  if (!text.startsWith('{')) throw new Error(`sluice ${args.join(' ')} printed no JSON: ${text}`);
  return JSON.parse(text) as T;
}

/** Waits until the kernel's maps match the objects. Returns false if they do not in time. */
async function agrees(lab: Lab, daemon: Daemon, objects: Objects): Promise<boolean> {
  const wanted = objects.wanted();
  for (const until = Date.now() + SETTLE_MS; Date.now() < until; await pause(200)) {
    const { services = [] } = await ask<{ services?: ListedService[] }>(lab, daemon, 'service', 'list');
    const held = services.map(({ key, backends = [] }) => [key, backends.map(({ address }) => address).toSorted()] as const);
    if (services.every(({ inSync }) => inSync) && isDeepStrictEqual(Object.fromEntries(held), wanted)) return true;
  }
  return false;
}

async function sample(lab: Lab, daemon: Daemon): Promise<Sample> {
  const pid = daemon.process?.pid ?? 0;
  const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024;
  const status = await ask<StatusJson>(lab, daemon, 'status');
  const pinned = (directory: 'links' | 'maps'): number => readdirSync(join(lab.bpffs, 'sluice', directory)).length;
  const used = status.maps.filter((map) => Number(map.used) >= 0).map((map) => [map.name, Number(map.used)] as const);
  return {
    rssMiB: rss,
    counts: {
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      pins: readdirSync(join(lab.bpffs, 'sluice'), { recursive: true }).length,
      links: pinned('links'),
      maps: pinned('maps'),
      objects: heldBy(pid).length,
      ...Object.fromEntries(used),
      waiting: Number(status.reconcile.pending) + Number(status.reconcile.error),
    },
  };
}

const textOf = (counts: Sample['counts']): string => Object.values(counts).join(' ');

/**
 * Waits for a sample equal to `wanted`. If `wanted` is undefined, waits for equal samples in a row. Returns the last sample on a
 * timeout.
 */
async function quiet(lab: Lab, daemon: Daemon, wanted: Sample | undefined): Promise<Sample> {
  let last = await sample(lab, daemon);
  let alike = 0;
  for (const until = Date.now() + SETTLE_MS; Date.now() < until;) {
    await pause(500);
    const now = await sample(lab, daemon);
    alike = textOf(now.counts) === textOf(wanted?.counts ?? last.counts) && now.counts['waiting'] === 0 ? alike + 1 : 0;
    last = now;
    if (alike === (wanted === undefined ? FIRST_LOOKS : 1)) break;
  }
  return last;
}

async function operate(lab: Lab, objects: Objects, random: () => number): Promise<void> {
  const below = (limit: number): number => Math.floor(random() * limit);
  const n = below(SERVICES);
  const kind = below(100);
  if (kind === 0) await objects.disturb(n);
  else if (kind === 1) {
    lab.ip('node', 'link', 'add', 'lxcsoak', 'type', 'veth', 'peer', 'name', 'soakpeer');
    lab.ip('node', 'link', 'delete', 'lxcsoak');
  } else if (kind < 15) await objects.set(n, undefined);
  else await objects.set(n, below(MOST_BACKENDS));
}

const median = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;

async function soak(lab: Lab): Promise<boolean> {
  for (const number of [1, 2]) lab.addPod(number);
  if (values.source !== 'files' && values.source !== 'kubernetes') throw new Error('--source must be files or kubernetes.');
  const place = await openPlace(values.source, lab);
  const { daemon } = place;
  const objects = new Objects(place);
  await objects.reset();
  await daemon.start({ hasSocketLb: true, extra: ['--log-level', 'info'] });
  const random = seededRandom(Number(values.seed));
  const samples: Sample[] = [];
  const began = performance.now();
  for (let checkpoint = 0; checkpoint < CHECKPOINTS; checkpoint += 1) {
    for (let i = 0; i < operations / CHECKPOINTS; i += 1) {
      await operate(lab, objects, random);
      await pause(PACE_MS);
    }
    if (!(await agrees(lab, daemon, objects))) {
      console.log(`The maps do not match the objects after the operations from number ${(checkpoint * operations) / CHECKPOINTS} on.`);
      return false;
    }
    await objects.reset();
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
  console.log(
    `The counts ${isEqual ? 'are equal at every checkpoint' : 'DIFFER'}. Memory of the second half is ${growth.toFixed(3)} times that of the first.`,
  );
  return isEqual && growth <= MEMORY_GROWTH;
}

const lab = new Lab();
try {
  process.exitCode = (await soak(lab)) ? 0 : 1;
} finally {
  await lab.close();
}
