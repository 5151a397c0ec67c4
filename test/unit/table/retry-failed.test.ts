// SPDX-License-Identifier: Apache-2.0
// retryFailed() of the reconciler. It retries the failed rows and steps at once, without waiting for the back-off, and nothing else.
import { expect, test } from 'vitest';
import { KernelError } from '../../../daemon/base/errors.ts';
import { type Operations, Reconciler } from '../../../daemon/table/reconciler.ts';
import { Table } from '../../../daemon/table/table.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';

/** A loop over the rows a and b. Calls that begin with a text in `failing` fail. */
function setup(...failing: string[]) {
  const scheduler = new ManualScheduler();
  const clock = new FakeClock();
  const table = new Table<string, string>('rows', scheduler.schedule);
  const calls: string[] = [];
  const broken = new Set(failing);
  const call = (text: string): void => {
    calls.push(text);
    if (broken.has(text)) throw new KernelError({ op: 'test', object: 'row', errno: 30, code: 'EROFS' });
  };
  const operations: Operations<string, string> = {
    restore: () => call('restore'),
    update: (row) => call(`update ${row}`),
    delete: (key) => call(`delete ${key}`),
    prune: () => true,
    *repair() {},
    freed: () => 0,
    freesAt: () => undefined,
  };
  const loop = new Reconciler<string, string>({
    ...{ table, operations, clock, schedule: scheduler.schedule, random: () => 0 },
    log: { rowFailed() {}, rowRecovered() {}, stepFailed() {}, stepRecovered() {}, repaired() {} },
  });
  for (const key of ['a', 'b']) table.upsert(key, key);
  loop.start();
  const taken = (): string[] => {
    scheduler.flush();
    return calls.splice(0);
  };
  return { clock, loop, broken, taken };
}

test('a failed row is tried without waiting for its back-off, and a row that did not fail is not tried', () => {
  const { clock, loop, broken, taken } = setup('update a');
  expect(taken()).toEqual(['restore', 'update a', 'update b']);
  // After these attempts, the next retry would be 8 s later.
  for (const wait of [1000, 2000, 4000]) clock.advance(wait);
  expect(taken()).toEqual(['update a', 'update a', 'update a']);
  loop.retryFailed();
  expect(taken()).toEqual(['update a']);
  broken.clear();
  loop.retryFailed();
  expect(taken()).toEqual(['update a']);
  loop.retryFailed();
  clock.advance(100_000);
  expect(taken()).toEqual([]);
});

test('a failed restore is reported as a failed step, and is retried too', () => {
  const { loop, broken, taken } = setup('restore');
  expect(taken()).toEqual(['restore']);
  loop.retryFailed();
  expect(taken()).toEqual(['restore']);
  expect(loop.failedSteps()).toMatchObject([{ step: 'restore', retries: 2, error: { code: 'EROFS' } }]);
  broken.clear();
  loop.retryFailed();
  expect([taken(), loop.failedSteps()]).toEqual([['restore', 'update a', 'update b'], []]);
});
