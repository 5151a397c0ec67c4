// SPDX-License-Identifier: Apache-2.0
// A files source with a real temporary directory and real inotify, on a fake clock. Tests must not sleep. They call until(), which
// checks its condition whenever a table or the log changes.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { sourceTables } from '../../../daemon/source/tables.ts';
import type { TableView } from '../../../daemon/table/table.ts';
import { FilesSource } from '../../../daemon/source/files/files-source.ts';
import { FakeClock } from '../../support/fake-clock.ts';

export const settleMs = 100;

export type Files = Readonly<Record<string, string>>;

/** A temporary directory that is removed after the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-source-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function writeFiles(directory: string, files: Files): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), text);
  }
}

export class World {
  readonly directory: string;
  readonly clock = new FakeClock();
  readonly tables = sourceTables(queueMicrotask);
  /** "+ message" when a problem appeared, "- message" when it was resolved. */
  readonly log: string[] = [];
  /** The messages of the source that are not problems. */
  readonly notes: string[] = [];
  readonly source: FilesSource;
  readonly #waiting = new Set<() => void>();

  constructor(directory: string) {
    this.directory = directory;
    const add = (line: string): void => {
      this.log.push(line);
      this.#wake();
    };
    this.source = new FilesSource({
      directory,
      tables: this.tables,
      clock: this.clock,
      settleMs,
      log: {
        appeared: ({ message }) => add(`+ ${message}`),
        resolved: ({ message }) => add(`- ${message}`),
        noted: (text) => this.notes.push(text),
      },
    });
    for (const table of Object.values(this.tables)) table.onChange(() => this.#wake());
  }

  #wake(): void {
    for (const check of this.#waiting) check();
  }

  /** Waits until the condition holds, for example after an inotify event. */
  until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = (): void => {
        if (!condition()) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }

  write(files: Files): void {
    writeFiles(this.directory, files);
  }

  /** Waits until the source has received the events of all changes so far, and has read the files. */
  async eventsRead(): Promise<void> {
    // In the first round of the event loop, this may run after the phase in which events are received.
    for (let round = 0; round < 2; round += 1) await nextTurn();
    await this.source.rescan();
  }

  /** Reads the directory, advances the clock by settleMs, and reads the directory again. */
  async settle(): Promise<void> {
    await this.eventsRead();
    this.clock.advance(settleMs);
    await this.source.rescan();
  }

  get messages(): string[] {
    return this.source.problems().map(({ message }) => message);
  }

  get services(): string[] {
    return keysOf(this.tables.services);
  }

  get slices(): string[] {
    return keysOf(this.tables.slices);
  }

  /** Sum of the revisions of all tables. */
  get revision(): number {
    return Object.values(this.tables).reduce((sum, table) => sum + table.revision, 0);
  }
}

const keysOf = (table: TableView<string, unknown>): string[] => [...table.all()].map(([key]) => key).toSorted();

/** A started source for a new directory with these files. */
export async function startWorld(files: Files): Promise<World> {
  const directory = temporaryDirectory();
  writeFiles(directory, files);
  return startIn(directory);
}

export async function startIn(directory: string): Promise<World> {
  const world = new World(directory);
  onTestFinished(() => world.source.stop());
  await world.source.start();
  return world;
}

/** A Service document of 8 lines whose clusterIP is on line 6 and whose port is on line 8. */
export const serviceYaml = (name: string, clusterIP = '10.96.0.1', port: number | string = 80): string =>
  [
    'apiVersion: v1',
    'kind: Service',
    'metadata:',
    `  name: ${name}`,
    'spec:',
    `  clusterIP: ${clusterIP}`,
    '  ports:',
    `  - port: ${port}`,
    '',
  ].join('\n');

/** An EndpointSlice document; the ports begin on line 9. */
export const sliceYaml = (name: string, ports = '- port: 8080', addresses: readonly string[] = ['10.0.0.1']): string =>
  [
    'apiVersion: discovery.k8s.io/v1',
    'kind: EndpointSlice',
    'metadata:',
    `  name: ${name}`,
    '  labels:',
    '    kubernetes.io/service-name: web',
    'addressType: IPv4',
    'ports:',
    ports,
    'endpoints:',
    ...addresses.map((address) => `- addresses: [${address}]`),
    '',
  ].join('\n');
