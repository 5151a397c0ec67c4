// SPDX-License-Identifier: Apache-2.0
// The order of starts and stops, and the time limit of a stop, with a clock that the test advances.
import { describe, expect, test } from 'vitest';

import type { Clock } from '../../../daemon/base/clock.ts';
import { Lifecycle, type LifecycleOptions, type Unit } from '../../../daemon/base/lifecycle.ts';

/** Time passes only when fireNext() runs the earliest timer. */
class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; task: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  setTimer(ms: number, task: () => void): () => void {
    const timer = { at: this.#now + ms, task };
    this.#timers.push(timer);
    return () => void (this.#timers = this.#timers.filter((other) => other !== timer));
  }

  fireNext(): void {
    const next = this.#timers.toSorted((a, b) => a.at - b.at)[0];
    if (next === undefined) return;
    this.#timers = this.#timers.filter((other) => other !== next);
    this.#now = Math.max(this.#now, next.at);
    next.task();
  }
}

const never = (): Promise<void> => new Promise(() => undefined);
const untilAborted = (signal: AbortSignal): Promise<void> =>
  new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }));

interface Behaviour {
  readonly start?: (signal: AbortSignal) => Promise<void>;
  readonly stop?: () => Promise<void>;
}

function makeLifecycle(behaviours: Record<string, Behaviour>, options: Partial<LifecycleOptions> = {}) {
  const log: string[] = [];
  const clock = new ManualClock();
  const units = Object.entries(behaviours).map(([name, { start, stop }]): Unit => {
    return {
      name,
      async start(signal) {
        log.push(`+${name}`);
        await start?.(signal);
      },
      async stop() {
        log.push(`-${name}`);
        await stop?.();
      },
    };
  });
  return { log, clock, lifecycle: new Lifecycle({ units, clock, ...options }) };
}

const reasonOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => 'no error',
    (reason: unknown) => reason,
  );

/** Fires timers until the promise settles. */
async function settle<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  const state = { isSettled: false };
  const watched = promise.finally(() => (state.isSettled = true));
  while (!state.isSettled) {
    clock.fireNext();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return watched;
}

describe('start', () => {
  test('units start in order and stop in reverse order', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {}, b: {}, c: {} });
    await lifecycle.start();
    expect(await lifecycle.stop()).toEqual({ unstopped: [], failures: [] });
    expect(log).toEqual(['+a', '+b', '+c', '-c', '-b', '-a']);
  });

  test('a failed start stops the units that had started, but not the one that failed, and throws the reason', async () => {
    const failure = new Error('no kernel');
    const { log, lifecycle } = makeLifecycle({ a: {}, b: { start: () => Promise.reject(failure) }, c: {} });
    expect(await reasonOf(lifecycle.start())).toBe(failure);
    expect(log).toEqual(['+a', '+b', '-a']);
  });

  test('an aborted signal stops the started units and throws its reason', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {}, b: { start: untilAborted } });
    const abort = new AbortController();
    const started = lifecycle.start(abort.signal);
    abort.abort(new Error('SIGTERM'));
    expect(await reasonOf(started)).toEqual(new Error('SIGTERM'));
    expect(log).toEqual(['+a', '-a']);
  });

  test('a signal that aborts while a unit is starting ends the start', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {}, b: { start: untilAborted }, c: {} });
    const abort = new AbortController();
    const started = reasonOf(lifecycle.start(abort.signal));
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort(new Error('SIGTERM'));
    expect(await started).toEqual(new Error('SIGTERM'));
    expect(log).toEqual(['+a', '+b', '-a']);
  });

  test('stop() ends a start that is still running', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {}, b: { start: untilAborted } });
    const started = reasonOf(lifecycle.start());
    await new Promise((resolve) => setImmediate(resolve));
    expect(await lifecycle.stop()).toEqual({ unstopped: [], failures: [] });
    expect(String(await started)).toContain('stopping');
    expect(log).toEqual(['+a', '+b', '-a']);
  });

  test('a unit that ignores the signal is abandoned, and the others are stopped', async () => {
    const { log, clock, lifecycle } = makeLifecycle({ a: {}, b: { start: never } });
    const abort = new AbortController();
    const started = reasonOf(lifecycle.start(abort.signal));
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort(new Error('SIGTERM'));
    expect(await settle(clock, started)).toEqual(new Error('SIGTERM'));
    expect(await lifecycle.stop()).toEqual({ unstopped: ['b'], failures: [] });
    expect(log).toEqual(['+a', '+b', '-a']);
  });
});

describe('stop', () => {
  test('stop() before start() does nothing, and makes a later start() fail', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {} });
    await lifecycle.stop();
    expect(String(await reasonOf(lifecycle.start()))).toContain('stopping');
    expect(log).toEqual([]);
  });

  test('stop() stops each unit once, even if it is called twice', async () => {
    const { log, lifecycle } = makeLifecycle({ a: {} });
    await lifecycle.start();
    const [first, second] = await Promise.all([lifecycle.stop(), lifecycle.stop()]);
    expect(first).toBe(second);
    expect(log).toEqual(['+a', '-a']);
  });

  test.for([
    { name: 'one unit hangs', hung: ['b'] },
    { name: 'all hang', hung: ['c', 'b', 'a'] },
  ])('$name: stop() names the units that hang, stops the others and ends in time', async ({ hung }) => {
    const behaviours = Object.fromEntries(['a', 'b', 'c'].map((unit) => [unit, hung.includes(unit) ? { stop: never } : {}]));
    const { log, clock, lifecycle } = makeLifecycle(behaviours);
    await lifecycle.start();
    expect(await settle(clock, lifecycle.stop())).toEqual({ unstopped: hung, failures: [] });
    expect(log.slice(3)).toEqual(['-c', '-b', '-a']);
    expect(clock.now()).toBeLessThanOrEqual(5000);
  });

  test('a unit whose stop() throws is reported, and the others are stopped', async () => {
    const error = new Error('busy');
    const { log, lifecycle } = makeLifecycle({ a: {}, b: { stop: () => Promise.reject(error) } });
    await lifecycle.start();
    expect(await lifecycle.stop()).toEqual({ unstopped: [], failures: [{ unit: 'b', error }] });
    expect(log.slice(2)).toEqual(['-b', '-a']);
  });

  test('start and stop report each unit', async () => {
    const events: string[] = [];
    const { clock, lifecycle } = makeLifecycle(
      { a: {}, b: { stop: never }, c: { stop: () => Promise.reject(new Error('busy')) } },
      { onEvent: ({ unit, did }) => events.push(`${unit} ${did}`) },
    );
    await lifecycle.start();
    await settle(clock, lifecycle.stop());
    expect(events).toEqual(['a started', 'b started', 'c started', 'c stop failed', 'b stop timed out', 'a stopped']);
  });
});
