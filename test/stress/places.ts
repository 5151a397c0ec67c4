// SPDX-License-Identifier: Apache-2.0
// The two sources of the soak and of the abuse test: files in a directory, and the API server double. Objects belong to groups; a group is
// one file, or some of the objects in the API server. Each source can be disturbed in its own way.
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { keyOf, type RawObject } from '../support/double/objects.ts';
import { Daemon } from '../support/lab/daemon.ts';
import type { Lab } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';
import type { Command } from './double.ts';

export interface Place {
  /** The daemon that reads this source. It is not started yet. */
  readonly daemon: Daemon;
  /** Replaces the objects of the group. */
  set(group: number, objects: readonly RawObject[]): Promise<void>;
  /** Disturbs the source in a way that the daemon must tolerate. Afterwards the group is unchanged. */
  disturb(group: number, objects: readonly RawObject[], choice: number): Promise<void>;
  /** Resolves when the daemon receives changes: at once for files, and when it watches again after disturb() for the API server. */
  delivers(): Promise<void>;
}

export type PlaceName = 'files' | 'kubernetes';

export const openPlace = (name: PlaceName, lab: Lab): Promise<Place> =>
  name === 'files' ? Promise.resolve(new Files(lab)) : Double.open(lab);

class Files implements Place {
  readonly daemon: Daemon;

  constructor(lab: Lab) {
    this.daemon = new Daemon(lab);
  }

  set(group: number, objects: readonly RawObject[]): Promise<void> {
    const partial = join(this.daemon.source, '.partial');
    writeFileSync(partial, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
    renameSync(partial, this.#path(group));
    return Promise.resolve();
  }

  /** Writes an incomplete document, then the complete one. */
  disturb(group: number, objects: readonly RawObject[]): Promise<void> {
    writeFileSync(this.#path(group), '{"kind": "List", "items": [');
    return this.set(group, objects);
  }

  delivers(): Promise<void> {
    return Promise.resolve();
  }

  #path(group: number): string {
    return join(this.daemon.source, `services-${group}.json`);
  }
}

const troubles = ['cut', 'expire', 'garbage', 'endless'] as const;

/** Time limit of a command. `delivers` waits for the daemon, whose longest back-off is a minute. */
const COMMAND_MS = 120_000;

class Double implements Place {
  readonly daemon: Daemon;
  readonly #process: LabProcess;
  readonly #groups = new Map<number, Map<string, RawObject>>();
  #last: Promise<unknown> = Promise.resolve();

  private constructor(lab: Lab, process: LabProcess, kubeconfig: string) {
    this.daemon = new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig]);
    this.#process = process;
  }

  static async open(lab: Lab): Promise<Double> {
    const kubeconfig = join(lab.directory, 'double.kubeconfig');
    const started = lab.start('node', [process.execPath, join(import.meta.dirname, 'double.ts'), kubeconfig]);
    await started.line((line) => line === 'ready');
    return new Double(lab, started, kubeconfig);
  }

  /** Writes the objects that changed and deletes the objects that no longer exist, as a client of the API does. */
  async set(group: number, objects: readonly RawObject[]): Promise<void> {
    const before = this.#groups.get(group) ?? new Map<string, RawObject>();
    const after = new Map(objects.map((object) => [`${object.kind} ${keyOf(object)}`, object]));
    this.#groups.set(group, after);
    const put = [...after].filter(([id, object]) => JSON.stringify(before.get(id)) !== JSON.stringify(object));
    const gone = [...before].filter(([id]) => !after.has(id));
    await this.#do({ put: put.map(([, object]) => object), delete: gone.map(([, object]) => [object.kind, keyOf(object)]) });
  }

  async disturb(_group: number, _objects: readonly RawObject[], choice: number): Promise<void> {
    await this.#do({ trouble: troubles[choice % troubles.length] ?? 'cut' });
  }

  async delivers(): Promise<void> {
    await this.#do({ delivers: ['Service', 'EndpointSlice'] });
  }

  /** The process carries out one command after the other. */
  #do(command: Command): Promise<unknown> {
    this.#last = this.#last.then(() => this.#process.ask(JSON.stringify(command), COMMAND_MS));
    return this.#last;
  }
}
