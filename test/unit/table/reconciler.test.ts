// SPDX-License-Identifier: Apache-2.0
// The reconciler with operations that only record their calls: order of changes, batches, retries, prune, repair and statuses.
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../daemon/base/errors.ts';
import { Table, type TableView } from '../../../daemon/table/table.ts';
import { type Operations, Reconciler, type ReconcilerOptions } from '../../../daemon/table/reconciler.ts';
import { backOff } from '../../../daemon/table/retries.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';

const failure = (code = 'EAGAIN'): KernelError => new KernelError({ op: 'test', object: 'row', errno: 1, code });

class Recorder implements Operations<string, string> {
  readonly calls: string[] = [];
  /** Error code by key of the row. A step that fails has its name as key: "restore", "prune" or "repair". */
  readonly failing = new Map<string, string>();
  isPruned = true;
  freedCount = 0;
  nextFree: number | undefined;
  /** Messages that each step of repair() yields. */
  drift: string[][] = [];

  restore(): void {
    this.#call('restore', 'restore');
  }

  update(row: string): void {
    this.#call(`update ${row}`, row.charAt(0));
  }

  delete(key: string): void {
    this.#call(`delete ${key}`, key);
  }

  prune(rows: TableView<string, string>): boolean {
    this.#call(`prune ${rows.size}`, 'prune');
    return this.isPruned;
  }

  *repair(): Generator<string[], void> {
    for (const sentences of this.drift) {
      this.#call('repair', 'repair');
      yield sentences;
    }
  }

  freed(): number {
    return this.freedCount;
  }

  freesAt(): number | undefined {
    return this.nextFree;
  }

  #call(text: string, fails: string): void {
    this.calls.push(text);
    const code = this.failing.get(fails);
    if (code !== undefined) throw failure(code);
  }
}

function setup(options: Partial<ReconcilerOptions<string, string>> = {}) {
  const scheduler = new ManualScheduler();
  const clock = new FakeClock();
  const table = new Table<string, string>('rows', scheduler.schedule);
  const markListed = table.registerSource('test');
  const operations = new Recorder();
  const log: string[] = [];
  const turns: (() => void)[] = [];
  const reconciler = new Reconciler<string, string>({
    ...{ table, operations, clock, schedule: (task) => turns.push(task), random: () => 0 },
    log: {
      rowFailed: (key) => log.push(`failed ${key}`),
      rowRecovered: (key, retries) => log.push(`recovered ${key} after ${retries}`),
      stepFailed: (what) => log.push(`failed ${what}`),
      stepRecovered: (what) => log.push(`recovered ${what}`),
      repaired: (sentence) => log.push(`repaired ${sentence}`),
    },
    ...options,
  });
  /** Writes rows. The first character of a row is its key: row "a1" has the key "a". */
  const put = (...rows: string[]): void => rows.forEach((row) => table.upsert(row.charAt(0), row));
  const flush = (): string[] => {
    scheduler.flush();
    return operations.calls.splice(0);
  };
  const advance = (ms: number): string[] => {
    clock.advance(ms);
    return flush();
  };
  return { table, markListed, operations, log, turns, reconciler, put, flush, advance, clock };
}

describe('changes', () => {
  test('changes are applied in order of revision; a row that changed twice is applied once, in its present version', () => {
    const { put, table, reconciler, flush } = setup();
    reconciler.start();
    put('a1', 'b1', 'a2', 'c1');
    table.delete('c');
    expect(flush()).toEqual(['restore', 'update b1', 'update a2', 'delete c']);
  });

  test('changes are applied at once when the loop is idle', () => {
    const { put, reconciler, flush, turns } = setup();
    reconciler.start();
    flush();
    put('a1');
    expect(flush()).toEqual(['update a1']);
    expect(turns).toEqual([]);
  });

  test('changes under load are applied in batches, and other tasks run between two batches', () => {
    const { put, reconciler, flush, turns } = setup({ batchSize: 2 });
    put('a1', 'b1', 'c1', 'd1', 'e1');
    reconciler.start();
    expect(flush()).toEqual(['restore', 'update a1', 'update b1']);
    put('a2');
    // This change does not schedule another round, because a scheduled round will apply it.
    expect(flush()).toEqual([]);
    turns.shift()?.();
    expect(flush()).toEqual(['update c1', 'update d1']);
    turns.shift()?.();
    expect(flush()).toEqual(['update e1', 'update a2']);
    turns.shift()?.();
    expect(turns).toEqual([]);
  });

  test('nothing is applied after stop()', () => {
    const { put, reconciler, flush, operations, advance } = setup();
    operations.failing.set('a', 'EAGAIN');
    put('a1');
    reconciler.start();
    flush();
    reconciler.stop();
    put('b1');
    expect(flush()).toEqual([]);
    expect(advance(100_000)).toEqual([]);
  });
});

describe('failures', () => {
  test('failed rows are retried with back-off, and do not delay other rows', () => {
    const { put, reconciler, flush, operations, advance, log } = setup();
    operations.failing.set('a', 'EAGAIN');
    put('a1', 'b1');
    reconciler.start();
    expect(flush()).toEqual(['restore', 'update a1', 'update b1']);
    expect(advance(999)).toEqual([]);
    expect(advance(1)).toEqual(['update a1']);
    expect(advance(1999)).toEqual([]);
    expect(advance(1)).toEqual(['update a1']);
    operations.failing.clear();
    expect(advance(4000)).toEqual(['update a1']);
    expect(advance(1_000_000)).toEqual([]);
    expect(log).toEqual(['failed a', 'recovered a after 3']);
  });

  test('a failed row that changes is tried at once, and its back-off starts again', () => {
    const { put, reconciler, flush, operations, advance, log } = setup();
    operations.failing.set('a', 'EAGAIN');
    put('a1');
    reconciler.start();
    flush();
    advance(10_000);
    put('a2');
    expect(flush()).toEqual(['update a2']);
    expect(reconciler.status('a')).toMatchObject({ kind: 'error', retries: 1 });
    expect(advance(1000)).toEqual(['update a2']);
    expect(log).toEqual(['failed a']);
  });

  test('a failed deletion is retried, and the row has a status until the deletion succeeds', () => {
    const { put, reconciler, flush, operations, advance, table } = setup();
    put('a1');
    reconciler.start();
    flush();
    operations.failing.set('a', 'EAGAIN');
    table.delete('a');
    expect(flush()).toEqual(['delete a']);
    expect(reconciler.status('a')?.kind).toBe('error');
    operations.failing.clear();
    expect(advance(1000)).toEqual(['delete a']);
    expect(reconciler.status('a')).toBeUndefined();
  });

  test.for([
    { failures: 1, random: 0, want: 1000 },
    { failures: 1, random: 0.5, want: 1500 },
    { failures: 3, random: 0, want: 4000 },
    { failures: 100, random: 0, want: 30_000 },
    { failures: 100, random: 1, want: 60_000 },
  ])('back-off after $failures failures with the random number $random is $want ms', ({ failures, random, want }) => {
    expect(backOff(failures, () => random)).toBe(want);
  });

  test('rows that failed for lack of space are retried as soon as space is freed', () => {
    const { put, reconciler, flush, operations, advance, turns } = setup();
    operations.failing.set('a', 'ENOSPC').set('b', 'EAGAIN');
    put('a1', 'b1', 'c1');
    reconciler.start();
    flush();
    operations.freedCount += 1;
    put('c2');
    expect(flush()).toEqual(['update c2']);
    turns.shift()?.();
    expect(flush()).toEqual(['update a1']);
    operations.nextFree = 100;
    put('c3');
    flush();
    operations.freedCount += 1;
    operations.nextFree = undefined;
    expect(advance(100)).toEqual([]);
    turns.shift()?.();
    expect(flush()).toEqual(['update a1']);
  });

  test('errors other than a KernelError are broken invariants and are thrown', () => {
    const { put, reconciler, operations } = setup();
    operations.update = () => {
      throw new TypeError('ours');
    };
    put('a1');
    expect(() => reconciler.start()).toThrow(TypeError);
  });
});

describe('restore', () => {
  test('restore runs before any update and is retried until it succeeds', () => {
    const { put, reconciler, flush, operations, advance, log } = setup();
    operations.failing.set('restore', 'EAGAIN');
    put('a1');
    reconciler.start();
    expect(flush()).toEqual(['restore']);
    expect(advance(1000)).toEqual(['restore']);
    operations.failing.clear();
    expect(advance(2000)).toEqual(['restore', 'update a1']);
    expect(log).toEqual(['failed restore', 'recovered restore']);
  });
});

describe('prune', () => {
  test('prune waits until the table is initialized and every source is complete', () => {
    let isComplete = false;
    const { put, reconciler, flush, markListed } = setup({ mayPrune: () => isComplete });
    put('a1');
    reconciler.start();
    expect(flush()).toEqual(['restore', 'update a1']);
    markListed();
    expect(flush()).toEqual([]);
    isComplete = true;
    reconciler.requestPrune();
    expect(flush()).toEqual(['prune 1']);
    put('b1');
    expect(flush()).toEqual(['update b1']);
  });

  test.for([
    { name: 'fails', break: (operations: Recorder) => operations.failing.set('prune', 'EAGAIN'), log: ['failed prune', 'recovered prune'] },
    { name: 'leaves entries in the maps', break: (operations: Recorder) => (operations.isPruned = false), log: [] },
  ])('prune is retried when it $name', ({ break: breakIt, log: want }) => {
    const { reconciler, flush, operations, markListed, advance, log } = setup();
    breakIt(operations);
    markListed();
    reconciler.start();
    expect(flush()).toEqual(['restore', 'prune 0']);
    expect(reconciler.isClean).toBe(false);
    operations.failing.clear();
    operations.isPruned = true;
    expect(advance(1000)).toEqual(['prune 0']);
    expect(advance(1_000_000)).toEqual([]);
    expect(reconciler.isClean).toBe(true);
    expect(log).toEqual(want);
  });
});

describe('progress', () => {
  test('each row has a status: pending, done or error', () => {
    const { put, reconciler, flush, operations, clock } = setup();
    operations.failing.set('b', 'EAGAIN');
    put('a1', 'b1');
    reconciler.start();
    flush();
    expect(reconciler.status('a')).toEqual({ kind: 'done', retries: 0, since: 0 });
    expect(reconciler.status('b')).toEqual({ kind: 'error', error: failure(), retries: 1, since: 0 });
    expect(reconciler.status('z')).toBeUndefined();
    clock.advance(500);
    put('a2', 'c1');
    expect(reconciler.status('a')?.kind).toBe('pending');
    expect(reconciler.counts()).toEqual({ done: 0, pending: 2, error: 1 });
    flush();
    expect(reconciler.counts()).toEqual({ done: 2, pending: 0, error: 1 });
    // A row that stays done keeps the time of its first success.
    expect(reconciler.status('a')).toEqual({ kind: 'done', retries: 0, since: 0 });
    expect([...reconciler.failed()].map(([key]) => key)).toEqual(['b']);
    expect(reconciler.health).toBe('Degraded, 1 of 3 rows failed');
    operations.failing.clear();
    clock.advance(1000);
    expect(reconciler.health).toBe('OK, 3 rows');
  });

  test('the loop is ready when every row of the initialized table has been tried, even if some failed', async () => {
    const { put, reconciler, flush, operations, markListed, turns } = setup({ batchSize: 1 });
    operations.failing.set('a', 'EAGAIN');
    put('a1', 'b1');
    reconciler.start();
    markListed();
    flush();
    expect(reconciler.isReady).toBe(false);
    while (turns.length > 0) turns.shift()?.();
    expect(reconciler.isReady).toBe(true);
    await reconciler.firstDone;
  });

  test('settled(N) resolves when revision N has been applied, and idle() when all changes have been applied', async () => {
    const { put, reconciler, flush, table, turns } = setup({ batchSize: 1 });
    const reached: string[] = [];
    let statuses = 0;
    reconciler.onStatus(() => (statuses += 1));
    put('a1', 'b1');
    const first = reconciler.settled(1).then(() => reached.push('first'));
    const second = reconciler.settled(table.revision).then(() => reached.push('second'));
    const idle = reconciler.idle().then(() => reached.push('idle'));
    reconciler.start();
    flush();
    await first;
    expect(reached).toEqual(['first']);
    while (turns.length > 0) turns.shift()?.();
    await Promise.all([second, idle]);
    expect(reached).toEqual(['first', 'second', 'idle']);
    expect(statuses).toBeGreaterThan(1);
    await reconciler.settled();
    await reconciler.idle();
  });
});

describe('the periodic repair', () => {
  const due = { repairEveryMs: 10_000, batchSize: 2 };

  test('the periodic repair begins one period after the first reconcile, runs a limited number of steps in each turn, and logs each repair', () => {
    const { reconciler, operations, log, turns, markListed, put, advance, flush } = setup(due);
    operations.drift = [['a was gone'], [], ['b was changed', 'c was changed']];
    put('a1');
    reconciler.start();
    markListed();
    flush();
    expect(advance(9_999)).toEqual([]);
    expect(advance(1)).toEqual(['repair', 'repair']);
    expect(log).toEqual(['repaired a was gone']);
    turns.shift()?.();
    // Only prune removes an entry that no row wants, so a repair requests a prune.
    expect(flush()).toEqual(['prune 1', 'repair']);
    expect(log).toEqual(['repaired a was gone', 'repaired b was changed', 'repaired c was changed']);
    expect(advance(9_999)).toEqual(['prune 1']);
    expect(advance(1)).toEqual(['repair', 'repair']);
  });

  test('a failure of the repair is logged once, and the repair starts again one period later', () => {
    const { reconciler, operations, log, markListed, advance, flush } = setup(due);
    operations.drift = [['never said']];
    operations.failing.set('repair', 'EIO');
    reconciler.start();
    markListed();
    flush();
    advance(10_000);
    advance(10_000);
    expect(log).toEqual(['failed repair']);
    operations.failing.clear();
    advance(10_000);
    expect(log).toEqual(['failed repair', 'recovered repair', 'repaired never said']);
  });

  test('a change is applied before the repair continues', () => {
    const { reconciler, operations, markListed, put, flush, clock } = setup(due);
    operations.drift = [[]];
    reconciler.start();
    markListed();
    flush();
    put('a1');
    clock.advance(10_000);
    expect(flush()).toEqual(['update a1', 'repair']);
  });
});

describe('applied()', () => {
  const never = new AbortController().signal;

  test('applied() resolves when the row has been applied', async () => {
    const { put, table, reconciler, flush } = setup();
    reconciler.start();
    put('a1');
    const applied = reconciler.applied('a', table.revision, never);
    flush();
    await Promise.all([applied, reconciler.applied('a', table.revision, never)]);
  });

  test('applied() resolves when the deletion has been applied', async () => {
    const { put, table, reconciler, flush } = setup();
    reconciler.start();
    put('a1');
    flush();
    table.delete('a');
    flush();
    await expect(reconciler.applied('a', table.revision, never)).resolves.toBeUndefined();
  });

  test('applied() waits for the write that the caller made, not for an earlier one', async () => {
    const { put, table, reconciler, flush, turns } = setup({ batchSize: 1 });
    put('b0');
    reconciler.start();
    while (turns.length > 0) turns.shift()?.();
    expect(flush()).toEqual(['restore', 'update b0']);
    put('a1', 'b1');
    let isDone = false;
    const applied = reconciler.applied('b', table.revision, never).then(() => (isDone = true));
    expect(flush()).toEqual(['update a1']);
    await new Promise(setImmediate);
    expect(isDone).toBe(false);
    turns.shift()?.();
    await applied;
  });

  test('applied() rejects with the error of the failed attempt, and the loop continues to retry', async () => {
    const { put, table, reconciler, flush, operations, advance } = setup();
    operations.failing.set('a', 'ENOSPC');
    reconciler.start();
    put('a1');
    const applied = reconciler.applied('a', table.revision, never);
    flush();
    await expect(applied).rejects.toMatchObject({ code: 'ENOSPC' });
    operations.failing.clear();
    advance(2000);
    await expect(reconciler.applied('a', table.revision, never)).resolves.toBeUndefined();
  });

  test('applied() rejects with the reason of the signal', async () => {
    const { put, table, reconciler, flush } = setup();
    const controller = new AbortController();
    put('a1');
    const applied = reconciler.applied('a', table.revision, controller.signal);
    controller.abort(new Error('too late'));
    await expect(applied).rejects.toThrow('too late');
    await expect(reconciler.applied('a', table.revision, controller.signal)).rejects.toThrow('too late');
    reconciler.start();
    expect(flush()).toEqual(['restore', 'update a1']);
  });
});
