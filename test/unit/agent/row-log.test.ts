// SPDX-License-Identifier: Apache-2.0
// The log of the reconcile loops while ten thousand rows fail, and recover, in one pass: a bounded number of lines that account for all.
import { expect, test } from 'vitest';
import { rowLog } from '../../../daemon/agent/row-log.ts';
import { KernelError } from '../../../daemon/base/errors.ts';
import { LOG_PERIOD_MS, LOGGED_LINES } from '../../../daemon/base/limited-log.ts';
import { type Operations, Reconciler } from '../../../daemon/table/reconciler.ts';
import { Table } from '../../../daemon/table/table.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';

const ROWS = 10_000;

type Line = readonly [fields: Readonly<Record<string, unknown>>, message: string];

function setup(isExpected?: (error: Error) => boolean) {
  const scheduler = new ManualScheduler();
  const clock = new FakeClock();
  const table = new Table<string, string>('rows', scheduler.schedule);
  const lines: Record<'debug' | 'info' | 'error', Line[]> = { debug: [], info: [], error: [] };
  const writer = (level: keyof typeof lines) => (fields: Line[0], message: string) => void lines[level].push([fields, message]);
  let isBroken = true;
  const operations: Operations<string, string> = {
    restore: () => undefined,
    update: () => {
      if (isBroken) throw new KernelError({ op: 'map update', object: 'lb_services', errno: 28, code: 'ENOSPC' });
    },
    delete: () => undefined,
    prune: () => true,
    *repair() {},
    freed: () => 0,
    freesAt: () => undefined,
  };
  const loop = new Reconciler<string, string>({
    ...{ table, operations, clock, schedule: scheduler.schedule, random: () => 0 },
    log: rowLog<string>({
      ...{ log: { debug: writer('debug'), info: writer('info'), error: writer('error') } as never, clock },
      ...{ fieldsOf: (row) => ({ row }), failed: 'failed', recovered: 'recovered', onRepaired: () => undefined },
      ...(isExpected === undefined ? {} : { isExpected }),
    }),
  });
  for (let n = 0; n < ROWS; n += 1) table.upsert(`row ${n}`, `row ${n}`);
  loop.start();
  scheduler.flush();
  const repair = (): void => {
    isBroken = false;
    loop.retryFailed();
    scheduler.flush();
  };
  return { clock, lines, loop, repair };
}

test('ten thousand rows that fail in one pass, and recover in another, write a bounded number of lines that count all', () => {
  const { clock, lines, loop, repair } = setup();
  expect([loop.counts().error, lines.error.length]).toEqual([ROWS, LOGGED_LINES]);
  expect(lines.error[0]).toMatchObject([{ row: 'row 0' }, 'failed']);
  clock.advance(LOG_PERIOD_MS);
  expect(lines.error.slice(LOGGED_LINES)).toEqual([
    [{ notLogged: ROWS - LOGGED_LINES }, 'further failures of this kind are not logged; see sluice status'],
  ]);
  repair();
  expect([loop.counts().error, lines.info.length]).toEqual([0, LOGGED_LINES]);
  clock.advance(LOG_PERIOD_MS);
  expect(lines.info.slice(LOGGED_LINES)).toEqual([[{ notLogged: ROWS - LOGGED_LINES }, 'further recoveries of this kind are not logged']]);
});

test('a failure that needs no attention is written at level debug', () => {
  const { lines } = setup(() => true);
  expect(lines.error).toEqual([]);
  expect(lines.debug.length).toBeGreaterThan(0);
});
