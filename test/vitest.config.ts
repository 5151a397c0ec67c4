// SPDX-License-Identifier: Apache-2.0
// The test projects, cheap ones first (design.md, 7). Names are folders under test/; test/run.ts chooses among them.
// kernel, netns and cluster change kernel state that all files share, so their files run one at a time, each in a process of its
// own: koffi and setns act on a process's main thread, which a worker thread is not.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { ResultFile } from './support/runner/result-file.ts';

const seconds = 1000;

interface Project {
  readonly name: string;
  /** Projects of one order run together; the next order waits. From 1: vitest takes 0 for "says nothing" and sorts by itself. */
  readonly order: number;
  /** Longest a single test, or a hook, may take. It only ends what hangs: many times what is needed on an idle machine. */
  readonly timeout: number;
  readonly isSerial: boolean;
  /** What runs once before its files. */
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
    // Left out, vitest keeps one core for itself: half of a small machine.
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
      project({ name: 'netns', order: 3, timeout: 600 * seconds, isSerial: true }),
      project({ name: 'cluster', order: 4, timeout: 600 * seconds, isSerial: true, setup: 'test/cluster/global-setup.ts' }),
    ],
  },
});
