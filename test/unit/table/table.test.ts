// SPDX-License-Identifier: Apache-2.0
// Tables and their observers. An observer that takes changes at any pace must end with the rows of the table. The table must not
// forget a deleted row before every observer has taken the deletion.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Change, type Observer, Table } from '../../../daemon/table/table.ts';

/** A scheduler that runs its tasks when the test calls tick(). */
function manualTicks() {
  const tasks: (() => void)[] = [];
  return {
    schedule: (task: () => void): void => void tasks.push(task),
    tick: (): void => {
      for (const task of tasks.splice(0)) task();
    },
  };
}

const makeTable = (): Table<string, number> => new Table('test', manualTicks().schedule);
const brief = (changes: Change<string, number>[]) => changes.map(({ key, row }) => [key, row]);

describe('rows', () => {
  test('rows can be inserted, replaced and deleted', () => {
    const table = makeTable();
    table.upsert('a', 1);
    table.upsert('b', 2);
    table.upsert('a', 3);
    table.delete('b');
    table.delete('absent');
    expect([...table.all()]).toEqual([['a', 3]]);
    expect(table.size).toBe(1);
    expect(table.get('b')).toBeUndefined();
    expect(table.revision).toBe(4);
    expect(table.revisionOf('a')).toBe(3);
    expect(table.revisionOf('absent')).toBe(0);
  });

  test('a row that is deleted and added again counts once', () => {
    const table = makeTable();
    const observer = table.observe();
    table.upsert('a', 1);
    table.delete('a');
    table.upsert('a', 2);
    expect(table.size).toBe(1);
    expect(brief(observer.take())).toEqual([['a', 2]]);
  });
});

describe('observers', () => {
  test('the first take() returns every row, the next one only changed rows, in order of revision', () => {
    const table = makeTable();
    table.upsert('a', 1);
    table.upsert('b', 2);
    const observer = table.observe();
    expect(brief(observer.take())).toEqual([
      ['a', 1],
      ['b', 2],
    ]);
    expect(observer.take()).toEqual([]);
    table.upsert('b', 3);
    table.upsert('a', 4);
    table.upsert('b', 5);
    expect(observer.take()).toEqual([
      { key: 'a', row: 4, revision: 4 },
      { key: 'b', row: 5, revision: 5 },
    ]);
  });

  test('a deleted row is remembered until the slowest observer has taken the deletion', () => {
    const table = makeTable();
    const fast = table.observe();
    const slow = table.observe();
    table.upsert('a', 1);
    fast.take();
    slow.take();
    table.delete('a');
    expect(brief(fast.take())).toEqual([['a', undefined]]);
    expect(brief(slow.take())).toEqual([['a', undefined]]);
    expect(table.revisionOf('a')).toBe(0);
  });

  test('a deleted row is not remembered for a closed observer', () => {
    const table = makeTable();
    const observer = table.observe();
    table.upsert('a', 1);
    table.delete('a');
    expect(table.revisionOf('a')).toBe(2);
    observer.close();
    expect(table.revisionOf('a')).toBe(0);
  });

  test('changes beyond the limit of a take() are returned by the next one', () => {
    const table = makeTable();
    const observer = table.observe();
    for (const key of ['a', 'b', 'c']) table.upsert(key, 1);
    expect(brief(observer.take(2))).toEqual([
      ['a', 1],
      ['b', 1],
    ]);
    table.upsert('a', 2);
    expect(brief(observer.take(2))).toEqual([
      ['c', 1],
      ['a', 2],
    ]);
  });
});

describe('onChange', () => {
  test('many changes cause one call of onChange per tick', () => {
    const ticks = manualTicks();
    const table = new Table<string, number>('test', ticks.schedule);
    let calls = 0;
    const unsubscribe = table.onChange(() => (calls += 1));
    table.upsert('a', 1);
    table.upsert('b', 1);
    expect(calls).toBe(0);
    ticks.tick();
    expect(calls).toBe(1);
    table.delete('a');
    ticks.tick();
    expect(calls).toBe(2);
    unsubscribe();
    table.delete('b');
    ticks.tick();
    expect(calls).toBe(2);
  });

  test('the table is initialized when its last source has finished, and the callback is called once', () => {
    const ticks = manualTicks();
    const table = new Table<string, number>('test', ticks.schedule);
    expect(table.initialized).toBe(false);
    const files = table.registerSource('files');
    const api = table.registerSource('api');
    let calls = 0;
    table.onChange(() => (calls += 1));
    files();
    files();
    expect(table.initialized).toBe(false);
    api();
    expect(table.initialized).toBe(true);
    ticks.tick();
    api();
    ticks.tick();
    expect(calls).toBe(1);
  });
});

type Step =
  | { readonly do: 'upsert'; readonly key: string; readonly row: number }
  | { readonly do: 'delete'; readonly key: string }
  | { readonly do: 'take'; readonly who: number; readonly limit: number }
  | { readonly do: 'observe' };

const key = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('upsert' as const), key, row: fc.nat(99) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('delete' as const), key }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('take' as const), who: fc.nat(3), limit: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('observe' as const) }) },
);

/** Keeps a copy of the table, which it builds only from the changes that its observer returns. */
class Follower {
  readonly rows = new Map<string, number>();
  readonly #observer: Observer<string, number>;
  #last = 0;

  constructor(table: Table<string, number>) {
    this.#observer = table.observe();
  }

  take(limit?: number): number {
    const changes = this.#observer.take(limit);
    expect(changes.length).toBeLessThanOrEqual(limit ?? Infinity);
    for (const change of changes) {
      expect(change.revision).toBeGreaterThan(this.#last);
      this.#last = change.revision;
      if (change.row === undefined) this.rows.delete(change.key);
      else this.rows.set(change.key, change.row);
    }
    return changes.length;
  }
}

test('at any pace, an observer that has taken all changes has the rows of the table', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, size: 'max' }), fc.integer({ min: 1, max: 5 }), (steps, chunk) => {
      const table = makeTable();
      const model = new Map<string, number>();
      const followers = [new Follower(table)];
      for (const next of steps) {
        switch (next.do) {
          case 'upsert':
            table.upsert(next.key, next.row);
            model.set(next.key, next.row);
            break;
          case 'delete':
            table.delete(next.key);
            model.delete(next.key);
            break;
          case 'take':
            followers[next.who % followers.length]?.take(next.limit);
            break;
          case 'observe':
            followers.push(new Follower(table));
            break;
        }
      }
      for (const follower of followers) {
        while (follower.take(chunk) > 0);
        expect(follower.rows).toEqual(model);
      }
      expect(new Map(table.all())).toEqual(model);
      expect(table.size).toBe(model.size);
      // Every observer has taken every deletion, so no deleted row is remembered.
      for (const name of 'abcde') expect(table.revisionOf(name) > 0).toBe(model.has(name));
    }),
    { numRuns: 500 },
  );
});
