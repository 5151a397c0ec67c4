// SPDX-License-Identifier: Apache-2.0
// DesiredPort rows in the maps: the order and number of writes, reuse of ids, full maps, restore and corrupt maps. The tests
// call LbOperations directly, so that a port can have any frontends.
import { describe, expect, test } from 'vitest';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import { Table } from '../../../daemon/table/table.ts';
import { dumpMaps } from '../../support/dump-maps.ts';
import { LbOperations } from '../../../daemon/services/apply/lb-operations.ts';
import { type FakeCapacities, fakeLbMaps } from '../../support/fake-maps.ts';
import { backendRow, backendTexts, desiredRow, frontendRow, podAddress, serviceValue } from '../../support/builders.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { realized } from '../../support/realized.ts';

function setup(capacities: Partial<FakeCapacities> = {}) {
  const maps = fakeLbMaps(capacities);
  const clock = new FakeClock();
  const operations = new LbOperations({ maps, clock });
  operations.restore();
  const writes = (): string[] => maps.writes.splice(0).map(({ map, op, at }) => `${map} ${op} ${at}`);
  const restarted = (): LbOperations => {
    const next = new LbOperations({ maps, clock });
    next.restore();
    return next;
  };
  return { maps, clock, operations, writes, restarted };
}

function tableOf(...rows: DesiredPort[]): Table<string, DesiredPort> {
  const table = new Table<string, DesiredPort>('desired', () => {});
  for (const row of rows) table.upsert(row.key, row);
  return table;
}

const vip = frontendRow('10.96.0.10');
const [one, two, three] = [backendRow('10.0.0.1'), backendRow('10.0.0.2'), backendRow('10.0.0.3')];

describe('order of writes', () => {
  test('the writes for a new port start with the backends and end with the frontend, which makes the port reachable', () => {
    const { operations, writes } = setup();
    operations.update(desiredRow('web', [vip], [one, two]));
    expect(writes()).toEqual([
      'lb4_backends set 1',
      'lb4_backends set 2',
      'lb_slots write 0',
      'lb_services set 1',
      'lb4_frontends set 10.96.0.10 80 6',
    ]);
  });

  test('the writes for a deletion start with the frontend and end with the backends', () => {
    const { operations, writes, maps } = setup();
    operations.update(desiredRow('web', [vip], [one, two]));
    writes();
    operations.delete('default/web:/TCP/IPv4');
    expect(writes()).toEqual(['lb4_frontends delete 10.96.0.10 80 6', 'lb_services set 1', 'lb4_backends set 1', 'lb4_backends set 2']);
    expect(dumpMaps(maps)).toEqual([]);
    operations.delete('default/web:/TCP/IPv4');
    expect(writes()).toEqual([]);
  });

  test('a backend gets added state bits before the new run is published, and loses removed state bits after that', () => {
    const { operations, writes, maps } = setup();
    operations.update(desiredRow('web', [vip], [one, two]));
    writes();
    const [unready, local] = [
      { ...one, isUsable: false, isServing: false },
      { ...two, isLocal: true },
    ];
    operations.update(desiredRow('web', [vip], [unready, local]));
    expect(writes()).toEqual(['lb4_backends set 2', 'lb_slots write 2', 'lb_services set 1', 'lb4_backends set 1']);
    expect(dumpMaps(maps)).toContain('BE 10.96.0.10:80/TCP 10.0.0.1:8080 -');
    expect(dumpMaps(maps)).toContain('BE 10.96.0.10:80/TCP 10.0.0.2:8080 usable,local,serving');
  });

  test('a change of state that does not affect the run is written in place', () => {
    const { operations, writes } = setup();
    operations.update(desiredRow('web', [vip], [one, two]));
    writes();
    operations.update(desiredRow('web', [vip], [one, { ...two, isLocal: true }]));
    expect(writes()).toEqual(['lb4_backends set 2']);
  });

  test('an unchanged row writes nothing', () => {
    const { operations, writes } = setup();
    operations.update(desiredRow('web', [vip], [one, two]));
    writes();
    operations.update(desiredRow('web', [vip], [one, two]));
    expect(writes()).toEqual([]);
  });

  test('adding one endpoint to 1,000 writes one backend row, one run and one service row', () => {
    const { operations, writes } = setup();
    const many = Array.from({ length: 1000 }, (_, n) => backendRow(podAddress(n)));
    operations.update(desiredRow('web', [vip], many));
    writes();
    operations.update(desiredRow('web', [vip], [...many, backendRow('10.2.0.1')]));
    expect(writes()).toEqual(['lb4_backends set 1001', 'lb_slots write 1000', 'lb_services set 1']);
    operations.update(desiredRow('web', [vip], many));
    expect(writes()).toEqual(['lb_slots write 2001', 'lb_services set 1', 'lb4_backends set 1001']);
  });

  test('a port without usable backends has a frontend, so that the datapath refuses its packets', () => {
    const { operations, writes, maps } = setup();
    operations.update(desiredRow('web', [vip]));
    expect(writes()).toEqual(['lb4_frontends set 10.96.0.10 80 6']);
    expect(dumpMaps(maps)).toEqual(['FE 10.96.0.10:80/TCP internal -> #10.96.0.10:80/TCP', 'SVC 10.96.0.10:80/TCP []']);
    operations.update(desiredRow('web', [vip], [one]));
    writes();
    operations.update(desiredRow('web', [vip]));
    expect(writes()).toEqual(['lb_services set 1', 'lb4_backends set 1']);
  });

  test('a VIP moves to another Service port by one write to the frontend, even if the new owner is updated first', () => {
    const { operations, writes, maps } = setup();
    operations.update(desiredRow('a', [vip], [one]));
    writes();
    operations.update(desiredRow('b', [vip], [two]));
    expect(writes().at(-1)).toBe('lb4_frontends set 10.96.0.10 80 6');
    // Port a has lost its only frontend, so its deletion deletes no frontend.
    operations.delete('default/a:/TCP/IPv4');
    expect(writes()).toEqual(['lb_services set 1', 'lb4_backends set 1']);
    expect(realized(maps).map((frontend) => backendTexts(frontend.backends))).toEqual([['10.0.0.2:8080']]);
  });

  test('several frontends share one index, and are added and removed separately', () => {
    const { operations, writes, maps } = setup();
    const [second, v6] = [frontendRow('10.96.0.11'), frontendRow('fd00::a')];
    operations.update(desiredRow('web', [vip, second], [one]));
    operations.update(desiredRow('web', [v6], [backendRow('fd00::1')]));
    writes();
    operations.update(desiredRow('web', [second], [one]));
    expect(writes()).toEqual(['lb4_frontends delete 10.96.0.10 80 6']);
    expect(dumpMaps(maps)).toMatchInlineSnapshot(`
      [
        "BE 10.96.0.11:80/TCP 10.0.0.1:8080 usable,serving",
        "BE [fd00::a]:80/TCP [fd00::1]:8080 usable,serving",
        "FE 10.96.0.11:80/TCP internal -> #10.96.0.11:80/TCP",
        "FE [fd00::a]:80/TCP internal -> #[fd00::a]:80/TCP",
        "SVC 10.96.0.11:80/TCP [10.0.0.1:8080]",
        "SVC [fd00::a]:80/TCP [[fd00::1]:8080]",
      ]
    `);
  });
});

describe('reuse of ids', () => {
  test('freed ids are reused after the grace period, with another generation', () => {
    const { operations, maps, clock } = setup();
    operations.update(desiredRow('web', [vip], [one]));
    expect(maps.backends.IPv4.get(1)).toEqual({ address: '10.0.0.1', port: 8080, service: 1, meta: 0x10d });
    operations.delete('default/web:/TCP/IPv4');
    expect(maps.backends.IPv4.get(1).meta).toBe(0x100);
    clock.advance(999);
    operations.update(desiredRow('db', [vip], [two]));
    expect(maps.backends.IPv4.get(2)).toEqual({ address: '10.0.0.2', port: 8080, service: 2, meta: 0x10d });
    expect(maps.services.get(2)).toEqual(serviceValue({ base: 1, count: 1 }));
    clock.advance(1);
    operations.update(desiredRow('mail', [frontendRow('10.96.0.12')], [three]));
    expect(maps.backends.IPv4.get(1)).toEqual({ address: '10.0.0.3', port: 8080, service: 1, meta: 0x20d });
    expect(maps.services.get(1)).toEqual(serviceValue({ base: 0, count: 1 }));
  });

  test('an address that is removed and added again gets a new generation; generations skip 0 when they wrap', () => {
    const { operations, maps, clock } = setup();
    maps.backends.IPv4.set(1, { address: '10.0.0.9', port: 1, service: 7, meta: 0xffff_ff00 });
    operations.update(desiredRow('web', [vip], [one]));
    expect(maps.backends.IPv4.get(1).meta).toBe(0x10d);
    operations.update(desiredRow('web', [vip]));
    clock.advance(1000);
    operations.update(desiredRow('web', [vip], [one]));
    expect(maps.backends.IPv4.get(1).meta).toBe(0x20d);
  });

  test('Service ports do not share backend ids', () => {
    const { operations, maps } = setup();
    operations.update(desiredRow('a', [vip], [one]));
    operations.update(desiredRow('b', [frontendRow('10.96.0.11')], [one]));
    expect([1, 2].map((id) => maps.backends.IPv4.get(id).service)).toEqual([1, 2]);
  });
});

describe('full maps', () => {
  const backends = (count: number) => Array.from({ length: count }, (_, n) => backendRow(podAddress(n)));
  const other = frontendRow('10.96.0.11');

  test.for([
    { name: 'slots', sizes: { slots: 6 }, want: 'lb_slots is full (capacity: 6 slots), Service default/b needs 4' },
    { name: 'backends', sizes: { backends: 6 }, want: 'lb4_backends is full (capacity: 6 rows), Service default/b needs 4' },
    { name: 'service indices', sizes: { services: 2 }, want: 'lb_services is full (capacity: 2 rows), Service default/b needs 1' },
    { name: 'frontends', sizes: { frontends: 1 }, want: 'lb4_frontends is full (capacity: 1 entries), Service default/b needs 1' },
  ])(
    'with no space for $name, nothing is written, the error names the map and the Service, and a later update succeeds',
    ({ sizes, want }) => {
      const { operations, writes, clock } = setup(sizes);
      operations.update(desiredRow('a', [vip], backends(3)));
      writes();
      const row = desiredRow('b', [other], backends(4));
      expect(() => operations.update(row)).toThrow(want);
      expect(writes()).toEqual([]);
      expect(operations.owners()).toEqual(new Map([[1, 'default/a:/TCP/IPv4']]));
      operations.delete('default/a:/TCP/IPv4');
      expect(operations.freesAt()).toBe(1000);
      clock.advance(1000);
      operations.freed();
      expect(operations.pressure().every((map) => map.used === 0)).toBe(true);
      operations.update(row);
      expect(writes().at(-1)).toBe('lb4_frontends set 10.96.0.11 80 6');
    },
  );

  test('the last applied state stays in force if an update does not fit into a full map', () => {
    const { operations, maps, writes } = setup({ slots: 6 });
    operations.update(desiredRow('web', [vip], backends(4)));
    writes();
    const before = dumpMaps(maps);
    expect(() => operations.update(desiredRow('web', [vip], backends(5)))).toThrow(
      'lb_slots is full (capacity: 6 slots), Service default/web needs 5',
    );
    expect(dumpMaps(maps)).toEqual(before);
    expect(writes()).toEqual([]);
  });

  test('the error names the frontend that the kernel rejects, and the removal of a frontend frees its entry', () => {
    const { operations, maps } = setup({ frontends: 1 });
    operations.update(desiredRow('web', [vip], [one]));
    expect(() => operations.update(desiredRow('web', [vip, other], [one]))).toThrow(
      'lb4_frontends is full (capacity: 1 entries), Service default/web needs 10.96.0.11:80/TCP',
    );
    operations.update(desiredRow('web', [other], [one]));
    expect(realized(maps).map((frontend) => frontend.key)).toEqual(['10.96.0.11:80/TCP']);
  });

  test('the map pressure counts used entries and entries in the grace period', () => {
    const { operations } = setup({ frontends: 10, services: 11, slots: 12, backends: 13 });
    operations.update(desiredRow('web', [vip], [one, two]));
    operations.update(desiredRow('web', [vip], [one]));
    expect(operations.pressure()).toEqual([
      { map: 'lb4_frontends', used: 1, capacity: 10 },
      { map: 'lb6_frontends', used: 0, capacity: 10 },
      { map: 'lb_services', used: 1, capacity: 11 },
      { map: 'lb_slots', used: 3, capacity: 12 },
      { map: 'lb4_backends', used: 2, capacity: 13 },
      { map: 'lb6_backends', used: 0, capacity: 13 },
      { map: 'lb4_ranges', used: 0, capacity: 1024 },
      { map: 'lb6_ranges', used: 0, capacity: 1024 },
    ]);
  });
});

describe('restore', () => {
  const second = frontendRow('10.96.0.11');
  const web = desiredRow('web', [vip, second], [one, { ...two, isUsable: false }]);
  const empty = desiredRow('empty', [frontendRow('10.96.0.12')]);

  test('after restore, unchanged rows write nothing, and prune finds nothing', () => {
    const { operations, writes, restarted } = setup();
    operations.update(web);
    operations.update(empty);
    writes();
    const next = restarted();
    next.update(empty);
    next.update(web);
    expect(next.prune(tableOf(web, empty))).toBe(true);
    expect(writes()).toEqual([]);
    expect(next.owners()).toEqual(
      new Map([
        [1, web.key],
        [2, empty.key],
      ]),
    );
  });

  test('leftover entries of the previous process keep their index, ids and slots until prune if no port takes them over', () => {
    const { operations, writes, maps, restarted, clock } = setup();
    operations.update(web);
    const next = restarted();
    writes();
    next.update(desiredRow('db', [frontendRow('10.96.0.12')], [three]));
    expect(maps.services.get(2)).toEqual(serviceValue({ base: 1, count: 1 }));
    expect(dumpMaps(maps)).toContain('SVC 10.96.0.10:80/TCP [10.0.0.1:8080]');
    writes();
    expect(next.prune(tableOf(desiredRow('db', [frontendRow('10.96.0.12')], [three])))).toBe(true);
    expect(writes()).toEqual([
      'lb4_frontends delete 10.96.0.10 80 6',
      'lb4_frontends delete 10.96.0.11 80 6',
      'lb_services set 1',
      'lb4_backends set 1',
      'lb4_backends set 2',
    ]);
    clock.advance(1000);
    next.freed();
    expect(next.pressure().map((map) => map.used)).toEqual([1, 0, 1, 1, 1, 0, 0, 0]);
  });

  test('when a frontend moves to another Service after a restart, the first Service keeps the service index', () => {
    const { operations, maps, restarted } = setup();
    operations.update(web);
    const next = restarted();
    const [first, moved] = [desiredRow('web', [vip], web.backends), desiredRow('db', [second], [three])];
    next.update(first);
    // The moved frontend keeps its old index until its new Service is applied.
    expect(realized(maps).map((frontend) => frontend.service)).toEqual([1, 1]);
    next.update(moved);
    expect(realized(maps).map((frontend) => backendTexts(frontend.backends))).toEqual([['10.0.0.1:8080'], ['10.0.0.3:8080']]);
    expect(next.prune(tableOf(first, moved))).toBe(true);
  });

  test('a service index is not freed while a frontend of the previous process refers to it', () => {
    const { operations, maps, clock, restarted } = setup();
    operations.update(web);
    const next = restarted();
    next.update(desiredRow('web', [vip], web.backends));
    next.delete(web.key);
    expect(next.owners()).toEqual(new Map([[1, '']]));
    clock.advance(5000);
    next.update(desiredRow('db', [frontendRow('10.96.0.12')], [three]));
    expect(next.owners()).toEqual(
      new Map([
        [1, ''],
        [2, 'default/db:/TCP/IPv4'],
      ]),
    );
    // A desired row that is not applied yet contains the frontend, so prune keeps the frontend.
    const late = desiredRow('late', [second], [three]);
    expect(next.prune(tableOf(late))).toBe(false);
    expect(next.prune(tableOf())).toBe(true);
    expect(dumpMaps(maps).filter((line) => line.startsWith('FE'))).toEqual(['FE 10.96.0.12:80/TCP internal -> #10.96.0.12:80/TCP']);
  });

  test('prune does not delete an entry that another program changed after restore', () => {
    const { operations, maps, restarted } = setup();
    operations.update(web);
    const next = restarted();
    const [key] = maps.frontends.IPv4.entries()[0] ?? [];
    if (key === undefined) throw new Error('the map has no entry');
    maps.frontends.IPv4.set(key, { service: 5, meta: 5 });
    expect(next.prune(tableOf())).toBe(false);
    expect(maps.frontends.IPv4.entries()).toHaveLength(1);
  });
});

describe('restore repairs corrupt maps', () => {
  const web = desiredRow('web', [vip], [one, two]);
  const db = desiredRow('db', [frontendRow('10.96.0.11')], [three]);
  type Maps = ReturnType<typeof fakeLbMaps>;
  const firstKey = (maps: Maps) => maps.frontends.IPv4.entries()[0]?.[0] ?? { address: '', port: 0, protocol: 0 };

  test.for<{ name: string; corrupt: (maps: Maps) => void }>([
    { name: 'a wrong check', corrupt: (maps) => maps.frontends.IPv4.set(firstKey(maps), { service: 1, meta: 1 }) },
    { name: 'an index out of range', corrupt: (maps) => maps.frontends.IPv4.set(firstKey(maps), { service: 0xffff_ffff, meta: 1 }) },
    { name: 'the index 0', corrupt: (maps) => maps.frontends.IPv4.set(firstKey(maps), { service: 0, meta: 1 }) },
    {
      name: 'an unknown protocol',
      corrupt: (maps) => maps.frontends.IPv4.set({ ...firstKey(maps), protocol: 99 }, { service: 1, meta: 1 }),
    },
    { name: 'overlapping runs', corrupt: (maps) => maps.services.set(2, serviceValue({ base: 1, count: 3 })) },
    {
      name: 'three overlapping runs',
      corrupt: (maps) => [1, 2, 3].forEach((i) => maps.services.set(i, serviceValue({ base: i, count: 9 - i }))),
    },
    { name: 'a run that exceeds the slots', corrupt: (maps) => maps.services.set(1, serviceValue({ base: 60, count: 100 })) },
    { name: 'a huge run', corrupt: (maps) => maps.services.set(1, serviceValue({ base: 0xffff_ffff, count: 0xffff_ffff })) },
    { name: 'an empty run with a base', corrupt: (maps) => maps.services.set(3, serviceValue({ base: 9, count: 0 })) },
    { name: 'dangling ids in a run', corrupt: (maps) => maps.slots.write(0, [77, 0xffff_ffff]) },
    { name: "a run with another index's backends", corrupt: (maps) => maps.slots.write(0, [3, 3]) },
    {
      name: 'a backend without an index',
      corrupt: (maps) => maps.backends.IPv4.set(9, { address: '10.0.0.1', port: 8080, service: 0, meta: 0x10f }),
    },
    {
      name: 'a backend with an index out of range',
      corrupt: (maps) => maps.backends.IPv6.set(9, { address: 'fd00::1', port: 8080, service: 999_999, meta: 0x10f }),
    },
    {
      name: 'a duplicate backend',
      corrupt: (maps) => maps.backends.IPv4.set(9, { address: '10.0.0.1', port: 8080, service: 1, meta: 0x10f }),
    },
    {
      name: 'a backend of the other family',
      corrupt: (maps) => maps.backends.IPv6.set(9, { address: 'fd00::1', port: 8080, service: 1, meta: 0x10f }),
    },
    {
      name: 'a freed backend in a run',
      corrupt: (maps) => maps.backends.IPv4.set(1, { address: '10.0.0.1', port: 8080, service: 1, meta: 0x100 }),
    },
    {
      name: 'all service rows zero',
      corrupt: (maps) => [1, 2].forEach((i) => maps.services.set(i, serviceValue({ base: 0, count: 0 }))),
    },
    {
      name: 'a frontend of the other family on the same index',
      corrupt: (maps) => maps.frontends.IPv6.set({ address: 'fd00::1', port: 80, protocol: 6 }, { service: 1, meta: 1 }),
    },
  ])('restore repairs $name', ({ corrupt }) => {
    const { maps, operations, restarted, clock } = setup({ slots: 64 });
    operations.update(web);
    operations.update(db);
    const want = dumpMaps(maps);
    corrupt(maps);
    expect(() => dumpMaps(maps)).not.toThrow();
    expect(() => realized(maps)).not.toThrow();
    const next = restarted();
    next.update(db);
    next.update(web);
    expect(next.prune(tableOf(web, db))).toBe(true);
    expect(dumpMaps(maps)).toEqual(want);
    for (const row of [web, db]) next.delete(row.key);
    clock.advance(1000);
    next.freed();
    expect(dumpMaps(maps)).toEqual([]);
    expect(next.pressure().filter((map) => map.used !== 0)).toEqual([]);
  });
});
