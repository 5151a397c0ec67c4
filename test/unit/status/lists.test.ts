// SPDX-License-Identifier: Apache-2.0
// The lists of Services and backends. The state may change between two rows of a list, and Services may be extremely large.
import { describe, expect, test } from 'vitest';
import type { Backend, DesiredPort } from '../../../daemon/model/frontend.ts';
import { LbOperations } from '../../../daemon/services/apply/lb-operations.ts';
import { backendViews, serviceViews } from '../../../daemon/status/lists.ts';
import { Table } from '../../../daemon/table/table.ts';
import { backendRow, desiredRow, frontendRow, podAddress } from '../../support/builders.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { type FakeCapacities, fakeLbMaps } from '../../support/fake-maps.ts';

class Setup {
  readonly maps;
  readonly operations;
  readonly desired = new Table<string, DesiredPort>('desired', (task) => task());
  /** Number of times that all owners were read. */
  ownerReads = 0;

  constructor(capacities: Partial<FakeCapacities> = {}) {
    this.maps = fakeLbMaps(capacities);
    this.operations = new LbOperations({ maps: this.maps, clock: new FakeClock() });
    this.operations.restore();
  }

  /** Makes the rows desired, and applies them to the maps. */
  put(...ports: readonly DesiredPort[]): this {
    for (const port of ports) {
      this.desired.upsert(port.key, port);
      this.operations.update(port);
    }
    return this;
  }

  delete(port: DesiredPort): void {
    this.desired.delete(port.key);
    this.operations.delete(port.key);
  }

  get parts() {
    return {
      ...{ desired: this.desired, maps: this.maps, portLoop: { status: () => ({ kind: 'done', retries: 0, since: 0 }) as const } },
      healthCheckPort: () => 0,
      owners: () => {
        this.ownerReads += 1;
        return this.operations.owners();
      },
    };
  }
}

const vip = (n: number): string => `10.96.${Math.floor(n / 250)}.${(n % 250) + 1}`;
const portOf = (n: number, backends: readonly Backend[]): DesiredPort =>
  desiredRow(`web-${String(n).padStart(4, '0')}`, [frontendRow(vip(n))], backends);
const pods = (first: number, count: number): Backend[] => Array.from({ length: count }, (_, i) => backendRow(podAddress(first + i)));

describe('lists while the state changes between two rows', () => {
  const places = Array.from({ length: 12 }, (_, place) => place * 5);

  test.for(places)('a change after %s elements is not reported as a difference between the desired state and the kernel', (place) => {
    const setup = new Setup().put(...Array.from({ length: 20 }, (_, n) => portOf(n, pods(n * 4, 4))));
    const views = serviceViews(setup.parts);
    const seen = [];
    for (let element = 0; ; element += 1) {
      if (element === place) {
        setup.delete(portOf(3, []));
        setup.put(portOf(4, pods(200, 6)), portOf(17, pods(210, 1)), portOf(30, pods(220, 2)));
      }
      const { value, done } = views.next();
      if (done === true) break;
      if (value !== undefined) seen.push(value);
    }
    expect(seen.filter(({ differences, isWanted }) => differences.length > 0 || !isWanted)).toEqual([]);
    const keys = seen.map(({ key }) => key);
    expect(keys).toEqual([...new Set(keys)].sort());
    expect(keys.length).toBeGreaterThanOrEqual(19);
  });

  test.for(places)('a change after %s elements is not reported as an undesired backend', (place) => {
    const setup = new Setup().put(...Array.from({ length: 20 }, (_, n) => portOf(n, pods(n * 4, 4))));
    const views = backendViews(setup.parts);
    const undesired = [];
    for (let element = 0; ; element += 1) {
      if (element === place) setup.put(portOf(4, pods(200, 6)), portOf(30, pods(220, 2)));
      const { value, done } = views.next();
      if (done === true) break;
      if (value?.isWanted === false) undesired.push(value);
    }
    expect(undesired).toEqual([]);
  });

  test('a list that is abandoned no longer observes the table', () => {
    const setup = new Setup().put(portOf(1, pods(1, 1)));
    const views = serviceViews(setup.parts);
    views.next();
    views.return();
    const observed = setup.desired.observe();
    observed.take();
    setup.desired.delete(portOf(1, []).key);
    observed.take();
    // The table discards a deleted row after every observer has seen the deletion.
    expect(setup.desired.revisionOf(portOf(1, []).key)).toBe(0);
  });
});

test('entries that exist only in the kernel are listed with their backends', () => {
  const setup = new Setup().put(portOf(1, pods(1, 2)), portOf(2, pods(3, 1)));
  setup.desired.delete(portOf(1, []).key);
  const [unwanted, wanted] = [...serviceViews(setup.parts)].filter((view) => view !== undefined);
  expect(unwanted).toMatchObject({ key: `${vip(1)}:80/TCP`, isWanted: false, run: [{ slots: 1 }, { slots: 1 }] });
  expect(wanted).toMatchObject({ isWanted: true, differences: [] });
  const backends = [...backendViews(setup.parts)].filter((view) => view !== undefined);
  expect(backends.map(({ isWanted, frontends }) => [isWanted, frontends])).toEqual([
    [false, [`${vip(1)}:80/TCP`]],
    [false, [`${vip(1)}:80/TCP`]],
    [true, [`${vip(2)}:80/TCP`]],
  ]);
});

describe('cost', () => {
  test('the work between two pauses does not grow with the number of Services or backends', () => {
    const setup = new Setup({ backends: 16_384, slots: 32_768 }).put(...Array.from({ length: 500 }, (_, n) => portOf(n, pods(n * 20, 20))));
    setup.maps.writes.length = 0;
    let reads = 0;
    const counted = <T extends object>(map: T): T =>
      new Proxy(map, {
        get: (target, name) => {
          const value: unknown = Reflect.get(target, name, target);
          if (typeof value !== 'function') return value;
          return (...args: unknown[]): unknown => {
            reads += 1;
            return Reflect.apply(value, target, args) as unknown;
          };
        },
      });
    const { maps } = setup;
    const backends = { IPv4: counted(maps.backends.IPv4), IPv6: maps.backends.IPv6 };
    let most = 0;
    for (const _ of serviceViews({ ...setup.parts, maps: { ...maps, backends } })) {
      most = Math.max(most, reads);
      reads = 0;
    }
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(20);
    expect(setup.maps.writes).toEqual([]);
  });

  test('every endpoint of a large Service is compared a bounded number of times', () => {
    const count = 3000;
    let reads = 0;
    const backends = pods(0, count).map((backend) => ({
      ...backend,
      get address(): string {
        reads += 1;
        return backend.address;
      },
    }));
    const setup = new Setup({ backends: 4096, slots: 8192, frontends: 256 });
    const frontends = Array.from({ length: 200 }, (_, n) => frontendRow(vip(n)));
    setup.put(desiredRow('big', frontends, backends));
    reads = 0;
    const [big] = [...serviceViews(setup.parts)].filter((view) => view !== undefined);
    expect(big?.differences).toEqual([]);
    expect([...backendViews(setup.parts)].filter((view) => view?.isWanted === true)).toHaveLength(count);
    expect(reads).toBeLessThan(count * 10);
    expect(setup.ownerReads).toBeLessThan(5);
  });

  test('the number of listed differences is limited, and the last line says that there are more', () => {
    const setup = new Setup({ backends: 4096, slots: 8192 }).put(portOf(1, pods(0, 1000)));
    setup.desired.upsert(portOf(1, []).key, portOf(1, pods(2000, 1000)));
    const [view] = [...serviceViews(setup.parts)].filter((each) => each !== undefined);
    expect(view?.differences).toHaveLength(101);
    expect(view?.differences.at(-1)).toBe('there are further differences');
  });
});
