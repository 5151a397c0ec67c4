// SPDX-License-Identifier: Apache-2.0
// kill -9 at 200 moments of a history of 200 changes: whatever was half written, the next start brings the maps to what a
// clean start would make of the same objects. A child over real, pinned maps is killed; this process only reads them.
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
/** From handing over a change to the kill; a child that has just started, its code cold, needs about ten ms for one. */
const LATEST_KILL_MS = 30;

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
  loaded.datapath.close();
  bpffs.close();
  rmSync(directory, { recursive: true });
});

/** crash-child.ts, which has loaded its code and waits. */
class Child {
  readonly process: ChildProcess;
  readonly #said: string[] = [];
  readonly #ended: Promise<void>;
  #wake: () => void = () => undefined;
  #isKilled = false;
  #sent = 0;

  constructor() {
    children.push(this);
    const args = [join(import.meta.dirname, 'crash-child.ts'), join(bpffs.path, 'sluice')];
    this.process = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    createInterface({ input: this.process.stdout ?? process.stdin }).on('line', (line) => {
      this.#said.push(line);
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

  /** By a file: what does not fit into the pipe would wait until this process is idle, and it is about to spin. */
  send(objects: CrashObjects): void {
    const path = join(directory, `${this.process.pid}-${(this.#sent += 1)}.json`);
    writeFileSync(path, JSON.stringify(objects));
    this.process.stdin?.write(`${path}\n`);
  }

  /** Resolves when it has said this word. */
  async heard(word: string): Promise<void> {
    for (;;) {
      if (this.#said.includes(word)) return;
      if (this.process.exitCode !== null || this.#isKilled) throw new Error(`the child ended before it said "${word}"`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async kill(): Promise<void> {
    this.#isKilled = true;
    this.process.kill('SIGKILL');
    await this.#ended;
  }
}

/** A seeded history: each call gives the objects after one more change. */
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

  /** 0 <= n < limit. */
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
    // Two names share an address now and then, and contend for it.
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

/** Waits without giving the processor away: timers are too coarse. */
function spin(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

test(`${CHANGES} changes, each followed by kill -9`, { timeout: 240_000 }, async () => {
  const history = new History(SEED);
  const dump = (): string => dumpMaps(loaded.maps).join('\n');
  const at = { beginning: 0, middle: 0, end: 0 };
  let before = cleanDump(history.objects).join('\n');
  let next = new Child();
  for (let change = 0; change < CHANGES; change += 1) {
    const child = next;
    await child.heard('loaded');
    next = new Child();
    // One kill in three hits the start itself.
    if (change % 3 !== 0) {
      child.send(history.objects);
      await child.heard('settled');
      expect(dump(), `after kill ${change}`).toBe(before);
    }
    const objects = history.change();
    const after = cleanDump(objects).join('\n');
    await next.heard('loaded');
    child.send(objects);
    spin(history.below(1000 * LATEST_KILL_MS) / 1000);
    await child.kill();
    const found = dump();
    // Of a child that had not settled nobody knows where it began.
    if (change % 3 !== 0) at[found === before ? 'beginning' : found === after ? 'end' : 'middle'] += 1;
    before = after;
  }
  next.send(history.objects);
  await next.heard('settled');
  expect(dump(), 'after the last kill').toBe(before);
  await next.kill();
  // The kills hit all parts of the work, or the test proves nothing.
  expect(at.middle).toBeGreaterThan(3);
  expect(at.end).toBeGreaterThan(3);
});
