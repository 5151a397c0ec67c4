// SPDX-License-Identifier: Apache-2.0
// Work in slices: the first slice runs at once, a pause ends only in a later round, and nothing runs after a stop.
import { expect, test } from 'vitest';
import { finish, Pacer, SlicedLoop, type Steps, Turns } from '../../../daemon/base/slices.ts';
import { countedPace, ManualScheduler } from '../../support/fake-clock.ts';

function setup(stepsPerSlice: number) {
  const scheduler = new ManualScheduler();
  const done: string[] = [];
  let names: readonly string[] = [];
  function* begin(): Steps {
    const own = names;
    for (const name of own) {
      done.push(name);
      yield;
    }
  }
  const loop = new SlicedLoop({ begin, pace: countedPace(scheduler, stepsPerSlice) });
  const wake = (...given: readonly string[]): void => {
    names = given;
    loop.wake();
  };
  return { scheduler, done, loop, wake };
}

test('a short piece of work is done at once', () => {
  const { done, loop, wake } = setup(10);
  wake('a', 'b');
  expect([done, loop.isBusy]).toEqual([['a', 'b'], false]);
});

test('long work pauses after each slice, and its end is reported once', () => {
  const { scheduler, done, loop, wake } = setup(2);
  let idle = 0;
  loop.onIdle(() => (idle += 1));
  wake('a', 'b', 'c', 'd', 'e');
  expect([done, loop.isBusy, idle]).toEqual([['a', 'b'], true, 0]);
  scheduler.round();
  expect([done, loop.isBusy, idle]).toEqual([['a', 'b', 'c', 'd'], true, 0]);
  scheduler.flush();
  expect([done, loop.isBusy, idle]).toEqual([['a', 'b', 'c', 'd', 'e'], false, 1]);
});

test('a change during a pause begins the work again when it has ended, and not before', () => {
  const { scheduler, done, wake } = setup(2);
  wake('a', 'b', 'c');
  wake('x');
  expect(done).toEqual(['a', 'b']);
  scheduler.flush();
  expect(done).toEqual(['a', 'b', 'c', 'x']);
});

test('nothing is done after stop, even if a slice is scheduled', () => {
  const { scheduler, done, loop, wake } = setup(1);
  wake('a', 'b');
  loop.stop();
  scheduler.flush();
  wake('c');
  expect(done).toEqual(['a']);
});

test('a step learns that a new slice began', async () => {
  const scheduler = new ManualScheduler();
  const seen: boolean[] = [];
  function* work(): Steps {
    for (let i = 0; i < 4; i += 1) seen.push(yield);
  }
  const done = new Pacer(countedPace(scheduler, 2), () => undefined).run(work());
  for (let i = 0; i < 9; i += 1) {
    scheduler.round();
    await Promise.resolve();
    await Promise.resolve();
  }
  await done;
  expect(seen).toEqual([false, true, false, true]);
});

test('a Pacer rejects with what is thrown after a pause, does no further step, and lets the work close what it has open', async () => {
  const scheduler = new ManualScheduler();
  let steps = 0;
  let isOpen = true;
  function* work(): Steps {
    try {
      for (; ; steps += 1) yield;
    } finally {
      isOpen = false;
    }
  }
  const fail = (): never => {
    throw new Error('stopped');
  };
  const done = new Pacer(countedPace(scheduler, 3), fail).run(work());
  scheduler.flush();
  await expect(done).rejects.toThrow('stopped');
  expect([steps, isOpen]).toEqual([2, false]);
});

test('work that shares turns has one slice per round of the event loop, in the order in which it asked', async () => {
  const turns = new Turns();
  const order: string[] = [];
  for (const name of ['a', 'b', 'c']) turns.schedule(() => order.push(name));
  const { promise, resolve } = Promise.withResolvers<void>();
  const round = (count: number): void => {
    order.push(`round ${count}`);
    if (count === 3) resolve();
    else setImmediate(() => round(count + 1));
  };
  setImmediate(() => round(1));
  await promise;
  expect(order).toEqual(['a', 'round 1', 'b', 'round 2', 'c', 'round 3']);
});

test('finish() does all steps and returns the result', () => {
  function* sum(): Steps<number> {
    let total = 0;
    for (let i = 1; i <= 100; i += 1) {
      total += i;
      yield;
    }
    return total;
  }
  expect(finish(sum())).toBe(5050);
});
