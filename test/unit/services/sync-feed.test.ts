// SPDX-License-Identifier: Apache-2.0
// The reports of the sync feed to health and metrics (test/README.md, 12 and 16). The Reconciler is real. Its operations write
// nothing and fail when a test requests it.
import { afterEach, describe, expect, test } from 'vitest';

import type { TimedSlice } from '../../../daemon/services/health/change-times.ts';
import { type Computation, familiesOfPort, SyncFeed } from '../../../daemon/services/health/sync-feed.ts';
import { SyncHealth } from '../../../daemon/services/health/sync-health.ts';
import { KernelError } from '../../../daemon/base/errors.ts';
import { type Operations, Reconciler } from '../../../daemon/table/reconciler.ts';
import { Table } from '../../../daemon/table/table.ts';
import { FakeClock, ManualScheduler } from '../../support/fake-clock.ts';

const undo: (() => void)[] = [];
afterEach(() => {
  for (const task of undo.splice(0).toReversed()) task();
});

const wallStart = Date.UTC(2026, 10, 23);
const v4 = 'default/web:/TCP/IPv4';
const v6 = 'default/web:/TCP/IPv6';

/** Operations that write nothing. An update fails with the error that `failures` has for the key of the row. */
class FailingOperations implements Operations<string, string> {
  readonly failures = new Map<string, Error>();
  /** If set, restore() throws this error. */
  restoring: Error | undefined;
  /** Called for each update. A test can replace it, for example to advance the clock during a sync. */
  onUpdate = (): void => undefined;

  restore(): void {
    if (this.restoring !== undefined) throw this.restoring;
  }

  update(row: string): void {
    this.onUpdate();
    const failure = this.failures.get(row);
    if (failure !== undefined) throw failure;
  }

  delete(): void {}

  prune(): boolean {
    return true;
  }

  *repair(): Iterator<readonly string[], void> {}

  freed(): number {
    return 0;
  }

  freesAt(): undefined {
    return undefined;
  }
}

const failing = (code: string): KernelError => new KernelError({ op: 'map update', object: 'lb_slots', errno: 1, code });

/** The sync feed with tables and a reconciler, but without controllers. Tests write the desired rows. A row is the text of its key. */
interface Given {
  readonly isStarted?: boolean;
  readonly restoring?: Error;
  readonly computations?: readonly Computation[];
}

async function world({ isStarted = true, restoring, computations = [] }: Given = {}) {
  const scheduler = new ManualScheduler();
  const clock = new FakeClock();
  const clockStart = clock.now();
  const wallNow = (): number => wallStart + clock.now() - clockStart;
  const services = new Table<string, object>('services', scheduler.schedule);
  const slices = new Table<string, TimedSlice>('slices', scheduler.schedule);
  const desired = new Table<string, string>('desired', scheduler.schedule);
  const initialized = desired.registerSource('test');
  const operations = new FailingOperations();
  operations.restoring = restoring;
  const log = { rowFailed() {}, rowRecovered() {}, stepFailed() {}, stepRecovered() {}, repaired() {} };
  const loop = new Reconciler({ table: desired, operations, clock, schedule: scheduler.schedule, log, random: () => 0 });
  const reports: string[] = [];
  const health = new SyncHealth({ wallNow });
  const feed = new SyncFeed({
    ...{ services, slices, health, clock, wallNow, computations, schedule: scheduler.schedule },
    synced: [{ table: desired, loop, familiesOf: familiesOfPort }],
    metrics: {
      synced: ({ family, seconds, isFull }) => reports.push(`${isFull ? 'full' : 'partial'} ${family} ${seconds}`),
      programmed: (family, seconds) => reports.push(`programmed ${family} ${seconds}`),
    },
  });
  undo.push(
    () => loop.stop(),
    () => feed.stop(),
  );
  loop.start();
  feed.start();
  const settle = async (): Promise<void> => {
    // A promise of the loop may schedule a task, and a task may settle a promise, so several rounds are needed.
    for (let round = 0; round < 5; round += 1) {
      scheduler.flush();
      await Promise.resolve();
      await Promise.resolve();
    }
  };
  const want = async (...keys: string[]): Promise<void> => {
    for (const key of keys) desired.upsert(key, key);
    await settle();
  };
  const start = async (): Promise<void> => {
    initialized();
    await settle();
  };
  const slice = async (key: string, lastChangeTrigger?: number): Promise<void> => {
    slices.upsert(key, { family: 'IPv4', ...(lastChangeTrigger === undefined ? {} : { lastChangeTrigger }) });
    await settle();
  };
  const isHealthy = (): boolean => health.isHealthy(clock.now());
  const take = (): string[] => reports.splice(0);
  if (isStarted) await start();
  return { clock, services, slices, desired, operations, health, feed, settle, want, start, slice, isHealthy, take };
}

describe('12: the reports of queued changes and of syncs', () => {
  test('the first sync covers both families, even if there are no rows', async () => {
    const { health, clock, take } = await world();
    expect(take()).toEqual(['full IPv4 0', 'full IPv6 0']);
    expect(['IPv4' as const, 'IPv6' as const].map((family) => health.status(family, clock.now()).lastUpdated)).toEqual([
      wallStart,
      wallStart,
    ]);
  });

  test('there is no sync before the first list or while the maps cannot be read', async () => {
    const { operations, start, settle, want, take, clock } = await world({ isStarted: false, restoring: failing('EPERM') });
    await want(v4);
    await start();
    expect(take()).toEqual([]);
    operations.restoring = undefined;
    clock.advance(60_000);
    await settle();
    expect(take()).toEqual(['full IPv4 60', 'full IPv6 60']);
  });

  test('a change affects only its family', async () => {
    const { want, take, health, clock } = await world();
    take();
    clock.advance(1000);
    await want(v6);
    expect(take()).toEqual(['partial IPv6 0']);
    expect(health.status('IPv4', clock.now())).toEqual({ lastUpdated: wallStart, lastQueued: undefined, isHealthy: true });
    expect(health.status('IPv6', clock.now())).toEqual({ lastUpdated: wallStart + 1000, lastQueued: wallStart + 1000, isHealthy: true });
  });

  test('a sync lasts from the first row to the last', async () => {
    const { want, operations, take, clock, health } = await world();
    take();
    clock.advance(1000);
    operations.onUpdate = () => clock.advance(20);
    await want(v4, 'default/api:/TCP/IPv4');
    expect(take()).toEqual(['partial IPv4 0.04']);
    expect(health.status('IPv4', clock.now())).toMatchObject({ lastUpdated: wallStart + 1040 });
    await want('default/other:/TCP/IPv4');
    expect(take()).toEqual(['partial IPv4 0.02']);
  });

  test('the deletion of a row causes a sync too', async () => {
    const { want, desired, settle, take } = await world();
    await want(v4);
    take();
    desired.delete(v4);
    await settle();
    expect(take()).toEqual(['partial IPv4 0']);
  });

  test('a row that cannot be applied makes its family unhealthy after 60 s, until a retry succeeds', async () => {
    const { want, operations, isHealthy, clock, settle, health } = await world();
    operations.failures.set(v4, failing('EPERM'));
    await want(v4, v6);
    clock.advance(59_999);
    await settle();
    expect(isHealthy()).toBe(true);
    clock.advance(1);
    await settle();
    expect([isHealthy(), health.status('IPv6', clock.now()).isHealthy]).toEqual([false, true]);
    operations.failures.clear();
    clock.advance(60_000);
    await settle();
    expect(isHealthy()).toBe(true);
  });

  test('a Service that does not fit into the maps does not make the node unhealthy', async () => {
    const { want, operations, isHealthy, clock, settle } = await world();
    operations.failures.set(v4, new AggregateError([failing('E2BIG'), failing('ENOSPC')]));
    await want(v4);
    clock.advance(3_600_000);
    await settle();
    expect(isHealthy()).toBe(true);
  });
});

describe('16: the numbers of pending changes and of all changes', () => {
  test('an object is pending from its event to the end of the sync, and the total increases with every change', async () => {
    const { services, feed, settle, want, slice } = await world();
    services.upsert('default/web', {});
    await slice('default/web-1');
    await want(v4);
    expect(feed.changes()).toEqual({ services: { total: 1, pending: 0 }, slices: { total: 1, pending: 0 } });
    services.upsert('default/web', {});
    services.delete('default/web');
    await settle();
    expect(feed.changes()).toEqual({ services: { total: 3, pending: 0 }, slices: { total: 1, pending: 0 } });
  });

  test('objects are pending while the loop has not started', async () => {
    const { services, feed, settle, slice, start } = await world({ isStarted: false });
    services.upsert('default/web', {});
    services.upsert('default/api', {});
    await slice('default/web-1');
    expect(feed.changes()).toEqual({ services: { total: 2, pending: 2 }, slices: { total: 1, pending: 1 } });
    await start();
    await settle();
    expect(feed.changes()).toEqual({ services: { total: 2, pending: 0 }, slices: { total: 1, pending: 0 } });
  });
});

describe('16: the network programming latency lasts from last-change-trigger-time to the end of the sync', () => {
  /** Changes a slice and a desired row in one turn, as the controller does. */
  async function changed(from: Awaited<ReturnType<typeof world>>, lastChangeTrigger: number): Promise<string[]> {
    from.slices.upsert('default/web-1', { family: 'IPv4', lastChangeTrigger });
    from.desired.upsert(v4, v4);
    await from.settle();
    return from.take().filter((line) => line.startsWith('programmed'));
  }

  test('the network programming latency is measured once for each change', async () => {
    const from = await world();
    from.clock.advance(5000);
    expect(await changed(from, wallStart + 2000)).toEqual(['programmed IPv4 3']);
    expect(await changed(from, wallStart + 2000)).toEqual([]);
    from.clock.advance(1000);
    expect(await changed(from, wallStart + 5500)).toEqual(['programmed IPv4 0.5']);
  });

  test('the network programming latency of a change that failed lasts until the retry that succeeds', async () => {
    const from = await world();
    from.operations.failures.set(v4, failing('EPERM'));
    expect(await changed(from, wallStart + 1)).toEqual([]);
    from.operations.failures.clear();
    from.clock.advance(1000);
    await from.settle();
    expect(from.take()).toContain('programmed IPv4 0.999');
  });

  test('slices that changed before the proxy started are not measured', async () => {
    const from = await world();
    expect(await changed(from, wallStart - 1)).toEqual([]);
  });

  test('deletions are not measured', async () => {
    const from = await world({ isStarted: false });
    from.clock.advance(1000);
    await from.slice('default/web-1', wallStart + 500);
    from.slices.delete('default/web-1');
    await from.start();
    expect(from.take()).toEqual(['full IPv4 1', 'full IPv6 1']);
  });

  test('the network programming latency is 0 if the clock of the control plane is ahead', async () => {
    const from = await world();
    expect(await changed(from, wallStart + 9000)).toEqual(['programmed IPv4 0']);
  });

  test('a controller that pauses does not end the sync: the change is measured until its rows are applied', async () => {
    let onIdle = (): void => undefined;
    const computation = {
      isBusy: false,
      onIdle(callback: () => void): () => void {
        onIdle = callback;
        return () => undefined;
      },
    };
    const from = await world({ computations: [computation] });
    from.take();
    computation.isBusy = true;
    await from.slice('default/web-1', wallStart + 1);
    expect(from.feed.changes().slices.pending).toBe(1);
    from.clock.advance(1000);
    await from.want(v4);
    expect(from.take()).toEqual([]);
    computation.isBusy = false;
    onIdle();
    expect(from.take()).toEqual(['partial IPv4 0', 'programmed IPv4 0.999']);
    expect(from.feed.changes().slices.pending).toBe(0);
  });

  test('thousands of changes that arrive together are all counted', async () => {
    const from = await world();
    for (let i = 0; i < 2500; i += 1) from.slices.upsert(`default/web-${i}`, { family: 'IPv4', lastChangeTrigger: wallStart + 1 });
    from.desired.upsert(v4, v4);
    await from.settle();
    expect(from.take().filter((line) => line.startsWith('programmed'))).toHaveLength(2500);
  });

  test('events that change no desired row cause no sync, and are not measured with the next sync', async () => {
    const from = await world();
    from.take();
    await from.slice('default/web-1', wallStart + 1);
    expect(from.take()).toEqual([]);
    from.clock.advance(1000);
    await from.want(v4);
    expect(from.take()).toEqual(['partial IPv4 0']);
  });
});
