// SPDX-License-Identifier: Apache-2.0
// Tests how often an expensive computation runs, and how old a result can be.
import { describe, expect, test } from 'vitest';

import { cached } from '../../../daemon/base/cached.ts';
import { FakeClock } from '../../support/fake-clock.ts';

describe('a result', () => {
  test('a result is reused until it is as old as the limit', () => {
    const clock = new FakeClock();
    let runs = 0;
    const get = cached(() => (runs += 1), { ms: 1000, clock });
    expect([get(), get()]).toEqual([1, 1]);
    clock.advance(999);
    expect(get()).toBe(1);
    clock.advance(1);
    expect(get()).toBe(2);
  });

  test('nothing is cached if the computation throws', () => {
    let runs = 0;
    const get = cached(
      () => {
        runs += 1;
        if (runs === 1) throw new Error('first');
        return runs;
      },
      { ms: 1000, clock: new FakeClock() },
    );
    expect(get).toThrow('first');
    expect(get()).toBe(2);
  });
});

describe('a promise', () => {
  test('a pending promise is shared however long it takes, and its age is measured from the time when it settles', async () => {
    const clock = new FakeClock();
    const computations: PromiseWithResolvers<string>[] = [];
    const get = cached(
      () => {
        const computation = Promise.withResolvers<string>();
        computations.push(computation);
        return computation.promise;
      },
      { ms: 1000, clock },
    );
    const first = [get(), get()];
    clock.advance(5000);
    first.push(get());
    computations[0]?.resolve('a');
    expect(await Promise.all(first)).toEqual(['a', 'a', 'a']);
    clock.advance(999);
    expect(await get()).toBe('a');
    clock.advance(1);
    void get();
    expect(computations).toHaveLength(2);
  });

  test('a rejected promise is shared and cached as any other promise', async () => {
    const clock = new FakeClock();
    let runs = 0;
    const get = cached(() => Promise.reject(new Error(String((runs += 1)))), { ms: 1000, clock });
    const outcome = (): Promise<unknown> => get().catch((error: unknown) => (error as Error).message);
    expect(await Promise.all([outcome(), outcome()])).toEqual(['1', '1']);
    expect(await outcome()).toBe('1');
    clock.advance(1000);
    expect(await outcome()).toBe('2');
  });
});
