// SPDX-License-Identifier: Apache-2.0
// Problems and conflicts are logged once when they appear or change, and once when they are resolved.
import { beforeEach, expect, test } from 'vitest';
import { StatusLog } from '../../../daemon/status/status-log.ts';
import type { ConflictStatus } from '../../../daemon/status/view.ts';
import { FakeClock } from '../../support/fake-clock.ts';

let clock: FakeClock;
let problems: readonly string[];
let conflicts: readonly ConflictStatus[];
let lines: string[];
let statusLog: StatusLog;

beforeEach(() => {
  clock = new FakeClock();
  [problems, conflicts, lines] = [[], [], []];
  const write = (level: string) => (first: unknown, second?: unknown) => void lines.push(`${level} ${String(second ?? first)}`);
  statusLog = new StatusLog({
    ...{ problems: () => problems, conflicts: () => conflicts, clock },
    log: { warn: write('warn'), info: write('info') } as never,
  });
  statusLog.start();
});

/** Returns the log lines of one minute, in which the problems are computed many times. */
function logged(): string[] {
  clock.advance(60_000);
  return lines.splice(0);
}

const conflict = (owner: string, ...contenders: string[]): ConflictStatus => ({ frontend: '10.96.0.10:80/TCP', owner, contenders });

test('a problem is logged once, and once more when it is resolved', () => {
  expect(logged()).toEqual([]);
  problems = ['uplink eth7 does not exist: correct --uplinks'];
  expect(logged()).toEqual(['warn uplink eth7 does not exist: correct --uplinks']);
  expect(logged()).toEqual([]);
  problems = [];
  expect(logged()).toEqual(['info resolved: uplink eth7 does not exist: correct --uplinks']);
  expect(logged()).toEqual([]);
});

test('a conflict is logged again only when its owner or its contenders change', () => {
  conflicts = [conflict('default/a', 'default/b')];
  expect(logged()).toEqual(['warn frontend 10.96.0.10:80/TCP: served for default/a, not for default/b']);
  conflicts = [conflict('default/a', 'default/b')];
  expect(logged()).toEqual([]);
  conflicts = [conflict('default/b', 'default/a')];
  expect(logged()).toEqual(['warn frontend 10.96.0.10:80/TCP: served for default/b, not for default/a']);
  conflicts = [];
  expect(logged()).toEqual(['info resolved: frontend 10.96.0.10:80/TCP: served for default/b, not for default/a']);
});

test('ten thousand conflicts cause a bounded number of lines', () => {
  conflicts = Array.from({ length: 10_000 }, (_, port) => ({ ...conflict('default/a', 'default/b'), frontend: `10.96.0.10:${port}/TCP` }));
  const appeared = logged();
  expect(appeared).toHaveLength(51);
  expect(appeared.at(-1)).toBe('warn further problems are not logged; see sluice status');
  conflicts = [];
  expect(logged()).toHaveLength(51);
});

test('nothing is logged after stop()', () => {
  statusLog.stop();
  problems = ['late'];
  expect(logged()).toEqual([]);
});
