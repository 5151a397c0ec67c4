// SPDX-License-Identifier: Apache-2.0
// What the routes of a network namespace say about its devices: real routes of every form, changes while the agent follows them, and a
// routing table that is large and changes all the time. The tests use a private network namespace.
import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../daemon/base/clock.ts';
import { type Pace, Turns } from '../../daemon/base/slices.ts';
import type { DeviceRoutes } from '../../daemon/model/device.ts';
import { readDeviceFacts } from '../../daemon/source/netlink/device-facts.ts';
import { Routes } from '../../daemon/source/netlink/routes.ts';
import { Table } from '../../daemon/table/table.ts';
import { newNetns } from '../support/kernel.ts';
import { ip } from './fixture.ts';

const logged: string[] = [];
const log = { info: (_fields: unknown, message = '') => void logged.push(message), error: () => undefined } as never;
/** Runs `ip` for each line, first for those that begin with "-6". */
function batch(lines: readonly string[]): void {
  const { six = [], four = [] } = Object.groupBy(lines, (line) => (line.startsWith('-6 ') ? 'six' : 'four'));
  execFileSync('ip', ['-6', '-batch', '-'], { input: six.map((line) => line.slice(3)).join('\n') });
  execFileSync('ip', ['-batch', '-'], { input: four.join('\n') });
}

let table: Table<number, DeviceRoutes>;
let routes: Routes | undefined;

beforeEach(() => {
  newNetns();
  ip('link', 'set', 'lo', 'up');
  logged.splice(0);
  table = new Table<number, DeviceRoutes>('routes', setImmediate);
  // a and b are devices with a route to their gateways, 10.1.0.1 and 10.2.0.1.
  for (const [name, number] of [
    ['a', 1],
    ['b', 2],
  ] as const) {
    ip('link', 'add', 'name', name, 'index', String(100 + number), 'type', 'veth', 'peer', 'name', `peer-${name}`);
    for (const end of [name, `peer-${name}`]) ip('link', 'set', 'dev', end, 'up');
  }
});

afterEach(() => {
  routes?.stop();
  routes = undefined;
});

const gateways = ['route add 10.1.0.1 dev a', 'route add 10.2.0.1 dev b', '-6 route add fd01::1 dev a'];

/** "a: gateway" for each device with a route. */
function shown(): string {
  const names = new Map([
    [101, 'a'],
    [102, 'b'],
  ]);
  const textOf = ({ ifindex, hasGateway, hasDefault }: DeviceRoutes): string =>
    `${names.get(ifindex) ?? ifindex}: ${hasDefault ? 'default' : hasGateway ? 'gateway' : 'route'}`;
  const rows = [...table.all()].map(([, row]) => textOf(row));
  return rows.toSorted().join(', ');
}

async function until(is: () => boolean, what: () => string): Promise<void> {
  for (const end = Date.now() + 30_000; !is();) {
    if (Date.now() > end) throw new Error(`not within 30 s: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

const showing = (want: string): Promise<void> =>
  until(
    () => shown() === want,
    () => `${want}, but: ${shown()}`,
  );

async function follow(clock: Clock = systemClock, pace: Pace = new Turns()): Promise<void> {
  routes = new Routes(table, { clock, log, pace });
  await routes.start();
  expect(table.initialized).toBe(true);
}

describe('the routes that are present', () => {
  test.for([
    { name: 'no route: link-local addresses and the table "local" do not count', lines: [], want: '' },
    { name: 'a route to a host', lines: ['route add 10.9.0.1 dev a'], want: 'a: route' },
    { name: 'the route of an address', lines: ['address add 10.9.0.1/24 dev a'], want: 'a: route' },
    { name: 'an address with /32 has no route', lines: ['address add 10.9.0.1/32 dev a'], want: '' },
    { name: 'a link-local subnet', lines: ['address add 169.254.7.1/16 dev a', 'route add 224.0.0.0/4 dev a'], want: '' },
    {
      name: 'a host behind a gateway with a link-local address',
      lines: ['route add 169.254.169.254 via 10.1.0.1 dev a'],
      want: 'a: gateway, b: route',
    },
    { name: 'a gateway', lines: ['route add 10.8.0.0/16 via 10.1.0.1'], want: 'a: gateway, b: route' },
    { name: 'a default route', lines: ['route add default via 10.1.0.1'], want: 'a: default, b: route' },
    { name: 'a default route without a gateway', lines: ['route add default dev b'], want: 'a: route, b: default' },
    { name: 'a default route in another table', lines: ['route add default via 10.2.0.1 dev b table 1000'], want: 'a: route, b: default' },
    { name: 'a gateway of IPv6', lines: ['-6 route add fd09::/64 via fd01::1 dev a'], want: 'a: gateway, b: route' },
    { name: 'a default route of IPv6', lines: ['-6 route add default via fd01::1 dev a'], want: 'a: default, b: route' },
    {
      name: 'an IPv4 route with a gateway of IPv6',
      lines: ['route add 10.8.0.0/16 via inet6 fd01::1 dev a'],
      want: 'a: gateway, b: route',
    },
    {
      name: 'several next hops',
      lines: ['route add 10.8.0.0/16 nexthop via 10.1.0.1 dev a nexthop via 10.2.0.1 dev b'],
      want: 'a: gateway, b: gateway',
    },
    {
      name: 'several next hops of IPv6',
      lines: ['-6 route add fd02::1 dev b', '-6 route add fd09::/64 nexthop via fd01::1 dev a nexthop via fd02::1 dev b'],
      want: 'a: gateway, b: gateway',
    },
    {
      name: 'a default route with several next hops',
      lines: ['route add default nexthop via 10.1.0.1 dev a nexthop via 10.2.0.1 dev b'],
      want: 'a: default, b: default',
    },
    {
      name: 'routes that lead nowhere',
      lines: ['route add blackhole 10.8.0.0/16', 'route add unreachable default', '-6 route add prohibit fd09::/64'],
      want: '',
    },
    {
      name: 'a next hop object',
      lines: ['nexthop add id 7 via 10.1.0.1 dev a', 'route add 10.8.0.0/16 nhid 7'],
      want: 'a: gateway, b: route',
    },
  ])('$name', async ({ lines, want }) => {
    batch([...(want.includes(',') ? gateways : []), ...lines]);
    await follow();
    expect(shown()).toBe(want);
    // A command without a daemon finds the same.
    const facts = readDeviceFacts().filter(({ name, hasRoute }) => hasRoute && ['a', 'b'].includes(name));
    const kindOf = ({ hasDefault, hasGateway }: (typeof facts)[number]): string =>
      hasDefault ? 'default' : hasGateway ? 'gateway' : 'route';
    expect(
      facts
        .map((each) => `${each.name}: ${kindOf(each)}`)
        .toSorted()
        .join(', '),
    ).toBe(want);
  });

  test('routes that name only a next hop object, as with net.ipv4.nexthop_compat_mode=0', async () => {
    batch(gateways);
    execFileSync('sh', ['-c', 'echo 0 > /proc/sys/net/ipv4/nexthop_compat_mode']);
    batch(['nexthop add id 7 via 10.1.0.1 dev a', 'route add 10.8.0.0/16 nhid 7']);
    await follow();
    expect(shown()).toBe('a: gateway, b: route');
    batch(['nexthop add id 8 via 10.2.0.1 dev b', 'route add 10.9.0.0/16 nhid 8']);
    await showing('a: gateway, b: gateway');
  });
});

describe('changes of routes', () => {
  test('a new route is known from its event, without a reading of all routes', async () => {
    batch(gateways);
    const planned: number[] = [];
    await follow({ ...systemClock, setTimer: (ms) => (planned.push(ms), () => undefined) });
    expect(shown()).toBe('a: route, b: route');
    ip('route', 'add', '10.8.0.0/16', 'via', '10.1.0.1');
    await showing('a: gateway, b: route');
    ip('route', 'add', 'default', 'dev', 'b', 'table', '7');
    await showing('a: gateway, b: default');
    ip('-6', 'route', 'add', 'default', 'via', 'fd01::1', 'dev', 'a');
    await showing('a: default, b: default');
    expect(planned).toEqual([]);
  });

  test('after a removal and a replacement, the device through which no route leads any more loses its row', async () => {
    batch(gateways);
    await follow();
    ip('route', 'add', 'default', 'via', '10.1.0.1');
    await showing('a: default, b: route');
    ip('route', 'replace', 'default', 'via', '10.2.0.1');
    await showing('a: route, b: default');
    ip('route', 'delete', 'default');
    await showing('a: route, b: route');
    batch(['route delete 10.1.0.1 dev a', '-6 route delete fd01::1 dev a']);
    await showing('b: route');
  });

  test('the routes of a device that goes down or is removed are gone, of which the kernel reports nothing', async () => {
    batch([...gateways, 'route add default via 10.1.0.1']);
    const planned: number[] = [];
    await follow({ ...systemClock, setTimer: (ms) => (planned.push(ms), () => undefined) });
    expect(shown()).toBe('a: default, b: route');
    ip('link', 'delete', 'dev', 'b');
    await showing('a: default');
    batch(['-6 route delete fd01::1 dev a']);
    await until(
      () => planned.length === 1,
      () => 'the removal of a route is noticed',
    );
    ip('link', 'set', 'dev', 'a', 'down');
    await showing('');
  });

  // Linux 6.18 also reports the route in the first case; earlier versions report only the address.
  test.for([
    {
      name: 'the source address of a route',
      lines: ['address add 10.7.0.1/32 dev a', 'route add 10.8.0.0/16 dev a src 10.7.0.1'],
      removal: 'address delete 10.7.0.1/32 dev a',
    },
    { name: 'a route', lines: ['route add 10.8.0.0/16 dev a'], removal: 'route delete 10.8.0.0/16 dev a' },
    {
      name: 'a next hop object',
      lines: ['route add 10.1.0.1 dev b', 'nexthop add id 7 via 10.1.0.1 dev b', 'route add 10.8.0.0/16 nhid 7'],
      removal: 'nexthop delete id 7',
    },
  ])('the removal of $name leads to one reading of all routes', async ({ lines, removal }) => {
    batch(lines);
    const planned: (() => void)[] = [];
    await follow({ ...systemClock, setTimer: (_, task) => (planned.push(task), () => undefined) });
    expect(planned).toEqual([]);
    batch([removal]);
    await until(
      () => planned.length === 1,
      () => 'a reading is planned',
    );
    planned[0]?.();
    await showing(removal.startsWith('nexthop') ? 'b: route' : '');
    expect(planned).toHaveLength(1);
  });

  test('when events are lost, the routes are read again, and later events arrive', async () => {
    batch(gateways);
    await follow();
    // This process cannot receive events until the command has ended.
    batch(Array.from({ length: 6000 }, (_, i) => `route ${i % 2 === 0 ? 'add' : 'delete'} 10.8.0.0/16 via 10.1.0.1`));
    batch(['route add default via 10.2.0.1']);
    await showing('a: route, b: default');
    expect(logged.join()).toContain('events about the routes were lost');
    ip('route', 'delete', 'default');
    await showing('a: route, b: route');
    expect(routes?.problems()).toEqual([]);
  });
});

describe('a large routing table that changes all the time', () => {
  const count = 50_000;
  const prefix = (i: number): string => `11.${i >> 8}.${i & 255}.0/24`;

  test('it is read in slices, at most once a second, and nothing is kept per route', async () => {
    batch([...gateways, ...Array.from({ length: count }, (_, i) => `route add ${prefix(i)} via 10.1.0.1 proto 186`)]);
    const turns = new Turns();
    let pauses = 0;
    const pace: Pace = {
      begin: turns.begin,
      schedule: (task) => {
        pauses += 1;
        turns.schedule(task);
      },
    };
    const begun: number[] = [];
    const clock: Clock = {
      now: () => systemClock.now(),
      setTimer: (ms, task) =>
        systemClock.setTimer(ms, () => {
          begun.push(systemClock.now());
          task();
        }),
    };
    await follow(clock, pace);
    expect(shown()).toBe('a: gateway, b: route');
    expect(pauses).toBeGreaterThan(3);
    const began = systemClock.now();
    for (let round = 0; round < 40; round += 1) {
      batch(Array.from({ length: 100 }, (_, i) => `route ${round % 2 === 0 ? 'delete' : 'add'} ${prefix(i)} via 10.1.0.1 proto 186`));
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const seconds = (systemClock.now() - began) / 1000;
    expect(begun.length).toBeLessThanOrEqual(seconds + 1);
    for (const [i, at] of begun.entries()) if (i > 0) expect(at - (begun[i - 1] ?? 0)).toBeGreaterThanOrEqual(1000);
    expect(table.size).toBe(2);
    ip('route', 'add', 'default', 'via', '10.2.0.1');
    await showing('a: gateway, b: default');
    ip('route', 'delete', 'default');
    await showing('a: gateway, b: route');
  });
});
