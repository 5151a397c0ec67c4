// SPDX-License-Identifier: Apache-2.0
// A child process with real, pinned maps is killed (kill -9) during each of 200 changes. After each kill, the next start must bring the
// maps to the state of a clean start with the same objects. This process only reads the maps.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { fakeLbMaps } from '../support/fake-maps.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import { objectKey } from '../../daemon/model/object-key.ts';
import type { Service } from '../../daemon/model/service.ts';
import { dumpMaps } from '../support/dump-maps.ts';
import { portRow, serviceRow } from '../support/builders.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { World } from '../support/world.ts';
import type { CrashObjects } from './crash-child.ts';
import { Bpffs, enterNamespace, Loaded } from './fixture.ts';

const CHANGES = 200;
const SEED = 20_261_123;
/**
 * The initial limit of the delay between the sending of a change and the kill. Each delay is random, from 0 to the limit. A child
 * that has just started needs about 10 ms for a change, and several times as long on a busy machine. Therefore a kill before the
 * first write increases the limit, and a kill after the last write reduces it.
 */
const LATEST_KILL_MS = 30;
const STEP = 1.25;

const size = (entries: number): { entries: number; flag: string } => ({ entries, flag: 'test' });
const sizes = {
  ...{ lb4_frontends: size(256), lb6_frontends: size(256), lb_services: size(256), lb_slots: size(1024) },
  ...{ lb4_backends: size(8192), lb6_backends: size(8192), ct4: size(1024), ct6: size(1024) },
};

let bpffs: Bpffs;
let loaded: Loaded;
const children: Child[] = [];
const directory = mkdtempSync(join(tmpdir(), 'sluice-crash-'));

beforeAll(() => {
  enterNamespace();
  bpffs = new Bpffs();
  loaded = new Loaded(bpffs, sizes);
});
afterAll(() => {
  for (const child of children) child.process.kill('SIGKILL');
  rmSync(directory, { recursive: true });
  // When the bpffs is unmounted, nothing in it remains, even if the datapath was not loaded.
  bpffs.close();
  loaded.datapath.close();
});

/** A process of crash-child.ts. */
class Child {
  readonly process: ChildProcess;
  readonly #lines: string[] = [];
  readonly #ended: Promise<void>;
  #wake: () => void = () => undefined;
  #isKilled = false;
  #sent = 0;

  constructor() {
    children.push(this);
    const args = [join(import.meta.dirname, 'crash-child.ts'), join(bpffs.path, 'sluice')];
    this.process = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.process.stdout ?? process.stdin }).on('line', (line) => {
      this.#lines.push(line);
      this.#wake();
    });
    this.process.stdin?.on('error', () => undefined);
    this.#ended = new Promise((resolve) => {
      this.process.once('close', () => {
        resolve();
        this.#wake();
      });
    });
  }

  /**
   * Sends objects in a file. A pipe is not suitable: objects that exceed its buffer are written only when the event loop runs, and
   * this process blocks the event loop in spin().
   */
  send(objects: CrashObjects): void {
    const path = join(directory, `${this.process.pid}-${(this.#sent += 1)}.json`);
    writeFileSync(path, JSON.stringify(objects));
    this.process.stdin?.write(`${path}\n`);
  }

  /** Resolves when the child has printed this line. */
  async printed(word: string): Promise<void> {
    for (;;) {
      if (this.#lines.includes(word)) return;
      if (this.process.exitCode !== null || this.#isKilled) throw new Error(`the child ended before it printed "${word}"`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    this.process.kill('SIGKILL');
    await this.#ended;
  }
}

/** A random history of objects with a seed. Each call of change() makes one change and returns all objects. */
class History {
  readonly #random: () => number;
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  get objects(): CrashObjects {
    return { services: [...this.#services.values()], slices: [...this.#slices.values()] };
  }

  /** Returns a random n with 0 <= n < limit. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  change(): CrashObjects {
    const n = this.below(6);
    const name = `s${n}`;
    const kind = this.below(10);
    if (kind === 0) this.#services.delete(`ns/${name}`);
    else if (kind === 1) this.#slices.delete(`ns/${name}-IPv4`);
    else if (kind < 4) this.#put(this.#services, this.#service(n));
    else {
      this.#put(this.#services, this.#services.get(`ns/${name}`) ?? this.#service(n));
      this.#put(this.#slices, this.#slice(name, this.below(3) === 0 ? 'IPv6' : 'IPv4'));
    }
    return this.objects;
  }

  #put<Row extends Service | EndpointSlice>(rows: Map<string, Row>, row: Row): void {
    rows.set(objectKey(row), row);
  }

  #service(n: number): Service {
    const ports = [portRow({ name: 'web', port: 80 + this.below(3) }), portRow({ name: 'dns', protocol: 'UDP', port: 53 })];
    // Sometimes two Services have the same address. Then only one of them may own it.
    const host = 1 + (n % (4 + this.below(3)));
    const created = 1000 * n;
    const clusterIPs = { IPv4: `10.96.0.${host}`, IPv6: `fd00:96::${host}` };
    return serviceRow({ namespace: 'ns', name: `s${n}`, created, clusterIPs, ports: ports.slice(0, 1 + this.below(2)) });
  }

  #slice(service: string, family: 'IPv4' | 'IPv6'): EndpointSlice {
    const first = this.below(250);
    const address = (i: number): string => (family === 'IPv4' ? `10.1.${i >> 8}.${i & 255}` : `fd00:1::${(i + 1).toString(16)}`);
    return {
      ...{ namespace: 'ns', name: `${service}-${family}`, service, family },
      ports: [
        { name: 'web', protocol: 'TCP', port: 8080 },
        { name: 'dns', protocol: 'UDP', port: 5353 },
      ],
      endpoints: Array.from({ length: this.below(300) }, (_, i) => ({
        ...{ address: address(first + i), ready: this.below(10) > 0, serving: true, terminating: false },
      })),
    };
  }
}

function cleanDump({ services, slices }: CrashObjects): string[] {
  const maps = fakeLbMaps({ frontends: 256, services: 256, slots: 16_384, backends: 8192 });
  new World({ maps })
    .put(...slices, ...services)
    .listed()
    .settle();
  return dumpMaps(maps);
}

/** Waits in a busy loop, because the resolution of timers is too low. */
function spin(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

test(`after each of ${CHANGES} changes and a kill -9, the next start corrects the maps`, { timeout: 1_800_000 }, async () => {
  const history = new History(SEED);
  const dump = (): string => dumpMaps(loaded.maps).join('\n');
  const at = { beginning: 0, middle: 0, end: 0 };
  let latestMs = LATEST_KILL_MS;
  let before = cleanDump(history.objects).join('\n');
  let next = new Child();
  for (let change = 0; change < CHANGES; change += 1) {
    const child = next;
    await child.printed('loaded');
    next = new Child();
    // One kill in three happens during the start.
    if (change % 3 !== 0) {
      child.send(history.objects);
      await child.printed('settled');
      expect(dump(), `after kill ${change}`).toBe(before);
    }
    const objects = history.change();
    const after = cleanDump(objects).join('\n');
    await next.printed('loaded');
    child.send(objects);
    spin((history.below(1_000_000) / 1_000_000) * latestMs);
    await child.kill();
    const found = dump();
    // The phase is known only if the child had settled, because then the maps were equal to `before` when the change was sent.
    if (change % 3 !== 0) {
      const part = found === before ? 'beginning' : found === after ? 'end' : 'middle';
      at[part] += 1;
      latestMs *= part === 'beginning' ? STEP : part === 'end' ? 1 / STEP : 1;
    }
    before = after;
  }
  next.send(history.objects);
  await next.printed('settled');
  expect(dump(), 'after the last kill').toBe(before);
  await next.kill();
  // Some kills must happen during the writes of a change and some after them. Otherwise the test proves nothing.
  expect(at.middle).toBeGreaterThan(3);
  expect(at.end).toBeGreaterThan(3);
});
