// SPDX-License-Identifier: Apache-2.0
// The test projects, in the order in which they run: fast ones first, so that a simple fault is found early. Each name is a
// folder below test/; test/run.ts selects the projects. The files of kernel and cluster change state that all of them share, so they
// run one at a time. Each test of netns and topologies has namespaces, a cgroup and a bpffs of its own. Each file runs in its own process, because
// setns() acts on the main thread of a process.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { ResultFile } from './support/runner/result-file.ts';

const seconds = 1000;

interface Project {
  readonly name: string;
  /** Projects with the same number run together; the next number waits for them. Vitest treats 0 as unset. */
  readonly order: number;
  /**
   * Maximum time of a single test or hook. It only ends a test that hangs: on an idle machine tests need a small fraction of it.
   */
  readonly timeout: number;
  readonly isSerial: boolean;
  /** Module that runs once before the files of the project. */
  readonly setup?: string;
}

const project = ({ name, order, timeout, isSerial, setup }: Project) => ({
  extends: true as const,
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeout,
    hookTimeout: timeout,
    sequence: { groupOrder: order },
    globalSetup: setup ?? [],
    // By default vitest leaves one core unused, which is half of a small machine.
    maxWorkers: isSerial ? 1 : availableParallelism(),
  },
});

const resultPath = process.env['TEST_RESULT_FILE'];

export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    environment: 'node',
    pool: 'forks',
    isolate: true,
    allowOnly: false,
    teardownTimeout: 30 * seconds,
    reporters: ['default', ...(resultPath === undefined ? [] : [new ResultFile(resultPath)])],
    projects: [
      project({ name: 'unit', order: 1, timeout: 600 * seconds, isSerial: false }),
      project({ name: 'script', order: 1, timeout: 600 * seconds, isSerial: false }),
      project({ name: 'kernel', order: 2, timeout: 600 * seconds, isSerial: true }),
      project({ name: 'netns', order: 3, timeout: 600 * seconds, isSerial: false }),
      project({ name: 'topologies', order: 4, timeout: 600 * seconds, isSerial: false }),
      project({ name: 'cluster', order: 5, timeout: 600 * seconds, isSerial: true, setup: 'test/cluster/global-setup.ts' }),
    ],
  },
});
