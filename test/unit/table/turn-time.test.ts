// SPDX-License-Identifier: Apache-2.0
// The time of a turn of the reconciler is bounded: a few expensive rows, or steps of a repair, do not hold up other work.
import { expect, test } from 'vitest';
import { type Operations, Reconciler } from '../../../daemon/table/reconciler.ts';
import { Table } from '../../../daemon/table/table.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';

const REPAIR_EVERY_MS = 10_000;

/** Operations of which each takes one millisecond, and the turns of their loop. */
function setup() {
  const scheduler = new ManualScheduler();
  const clock = new FakeClock();
  const table = new Table<string, string>('rows', scheduler.schedule);
  table.registerSource('test')();
  const done: string[] = [];
  const take = (what: string): void => {
    clock.advance(1);
    done.push(what);
  };
  const operations: Operations<string, string> = {
    restore: () => undefined,
    update: take,
    delete: take,
    prune: () => true,
    *repair() {
      for (let i = 0; i < 10; i += 1) {
        take(`repair ${i}`);
        yield [];
      }
    },
    freed: () => 0,
    freesAt: () => undefined,
  };
  const turns: (() => void)[] = [];
  const ignore = (): void => undefined;
  const log = { rowFailed: ignore, rowRecovered: ignore, stepFailed: ignore, stepRecovered: ignore, repaired: ignore };
  const schedule = (task: () => void): void => void turns.push(task);
  const loop = new Reconciler({ table, operations, clock, schedule, log, random: () => 0, repairEveryMs: REPAIR_EVERY_MS });
  const put = (...rows: readonly string[]): void => rows.forEach((row) => table.upsert(row, row));
  /** Number of operations since the last call. */
  const count = (): number => {
    scheduler.flush();
    return done.splice(0).length;
  };
  return { clock, loop, put, turns, count };
}

test('a turn ends when its time is over, and the next turn continues', () => {
  const { loop, put, turns, count } = setup();
  put(...Array.from({ length: 16 }, (_, i) => `row ${i}`));
  loop.start();
  expect([count(), loop.behind]).toEqual([4, 12]);
  put('another row');
  for (const expected of [4, 4, 4, 1]) {
    turns.shift()?.();
    expect(count()).toBe(expected);
  }
  expect([loop.behind, turns]).toEqual([0, []]);
});

test('a repair continues in the next turn when the time of a turn is over', () => {
  const { clock, loop, put, turns, count } = setup();
  put('row');
  loop.start();
  count();
  clock.advance(REPAIR_EVERY_MS);
  expect(count()).toBe(4);
  for (const expected of [4, 2]) {
    turns.shift()?.();
    expect(count()).toBe(expected);
  }
});
