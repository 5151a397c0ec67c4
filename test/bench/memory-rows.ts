// SPDX-License-Identifier: Apache-2.0
// The memory row: resident memory of an idle daemon with one Service and maps of default size, started as `npm run sluiced`
// starts it, with a filled code cache. The yardstick is a Node.js process that does nothing. main.ts runs the row.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { steadyRssMiB } from './scale/process-costs.ts';
import type { Group, Row, Sample } from './row.ts';

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
    if (lab === undefined || daemon === undefined) throw new Error('open() was not called');
    const env = { NODE_COMPILE_CACHE: this.#cache };
    await daemon.start({ hasSocketLb: true, extra: ['--log-level', 'info'], isSmall: false, isTuned: true, env });
    const ours = await steadyRssMiB(daemon.process?.pid ?? 0);
    // Node.js writes the code cache only when the process exits normally, as after SIGTERM.
    await daemon.process?.kill('SIGTERM');
    const bare = lab.start('node', [process.execPath, '-e', 'console.log("up"); setInterval(() => undefined, 1e6)']);
    await bare.line((line) => line === 'up');
    const theirs = await steadyRssMiB(bare.pid);
    await bare.kill();
    return { ours, theirs };
  }

  async close(): Promise<void> {
    await this.#lab?.close();
    if (this.#cache !== '') rmSync(this.#cache, { recursive: true });
  }
}
