// SPDX-License-Identifier: Apache-2.0
// Resident memory of an idle daemon: one Service, maps of default size, started as `npm run sluiced` starts it, its code
// cache filled. Beside it a Node.js that does nothing.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Daemon, service, slices } from '../lab/daemon.ts';
import { Lab } from '../lab/lab.ts';
import type { LabProcess } from '../lab/process.ts';
import type { Group, Row, Sample } from './row.ts';

const STEADY_MIB = 0.3;
const LOOK_EVERY_MS = 1000;
const MOST_LOOKS = 15;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What `npm run sluiced` gives Node.js. */
function sluicedFlags(): string[] {
  const { scripts } = JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { scripts: { sluiced: string } };
  return /exec node (.*)daemon\/main\.ts/.exec(scripts.sluiced)?.[1]?.split(' ').filter(Boolean) ?? [];
}

export class MemoryBench implements Group {
  readonly rows: readonly Row[] = [
    {
      ...{ name: 'RSS of the daemon, idle', yardstick: 'Node.js, idle', unit: 'MiB' },
      goal: { of: 'ours', limit: 100, side: 'atMost' },
    },
  ];
  readonly mostRounds = 5;
  #lab: Lab | undefined;
  #daemon: Daemon | undefined;
  #cache = '';

  async open(): Promise<void> {
    this.#cache = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    this.#lab = new Lab();
    this.#lab.addPod(1);
    this.#daemon = new Daemon(this.#lab);
    this.#daemon.write('web.yaml', service('web'), ...slices('web', [1]));
    await this.#ask();
  }

  async round(): Promise<Sample[]> {
    return [await this.#ask()];
  }

  async #ask(): Promise<Sample> {
    const [lab, daemon] = [this.#lab, this.#daemon];
    if (lab === undefined || daemon === undefined) throw new Error('not open');
    const env = { NODE_COMPILE_CACHE: this.#cache };
    await daemon.start({ hasSocketLb: true, extra: ['--log-level', 'info'], isSmall: false, node: sluicedFlags(), env });
    const ours = await steady(daemon.process);
    // The cache is written at a regular end.
    await daemon.process?.kill('SIGTERM');
    const bare = lab.start('node', [process.execPath, '-e', 'console.log("up"); setInterval(() => undefined, 1e6)']);
    await bare.line((line) => line === 'up');
    const theirs = await steady(bare);
    await bare.kill();
    return { ours, theirs };
  }

  async close(): Promise<void> {
    await this.#lab?.close();
    if (this.#cache !== '') rmSync(this.#cache, { recursive: true });
  }
}

/** MiB, once it does not change any more. */
async function steady(process: LabProcess | undefined): Promise<number> {
  const look = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${process?.pid}/status`, 'utf8'))?.[1]) / 1024;
  let last = look();
  for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
    await pause(LOOK_EVERY_MS);
    const now = look();
    if (Math.abs(now - last) < STEADY_MIB) return now;
    last = now;
  }
  return last;
}
