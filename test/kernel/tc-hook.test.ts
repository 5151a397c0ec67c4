// SPDX-License-Identifier: Apache-2.0
// The place of the programs of Sluice among those of other owners: first at ingress, last at egress, as TCX links or as clsact filters. The
// guard restores the place, within limits and without a moment in which no program of Sluice is attached. The tests use a private namespace
// and bpffs, and read the hooks from the kernel.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { clsactFilters } from '../../daemon/kernel/clsact.ts';
import { linkInfo, programId, tcxPrograms } from '../../daemon/kernel/link.ts';
import { closeFd, openPin } from '../../daemon/kernel/map.ts';
import { Datapath } from '../../daemon/bpf/datapath.ts';
import { DeviceOperations } from '../../daemon/bpf/devices.ts';
import { Guard } from '../../daemon/bpf/guard.ts';
import { PinDirectory } from '../../daemon/bpf/pins.ts';
import { MOVE_INTERVAL_MS, MOVES_PER_HOUR } from '../../daemon/bpf/tc-hook.ts';
import { removals } from '../../daemon/bpf/uninstall.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Foreign } from '../support/lab/foreign.ts';
import { Bpffs, devices as device, enterNamespace, objectsPath, smallSizes } from './fixture.ts';
import { ordinary } from '../support/builders.ts';

let bpffs: Bpffs;
let pins: PinDirectory;
let datapath: Datapath;
let operations: DeviceOperations;
let clock: FakeClock;
let guard: Guard;
let foreign: Foreign;
const reports: string[] = [];
const others: Foreign[] = [];

const tc = (...args: readonly string[]): string => execFileSync('tc', args, { encoding: 'utf8' });
const row = { ifindex: 0, name: 'lxc1', role: 'pod', linkHeader: 'ethernet', appearance: 1 } as const;

function start(hasTcx = true): void {
  operations = new DeviceOperations({ datapath, pins, log: pino({ level: 'silent' }), hasTcx });
  operations.restore();
  operations.update({ ...row, ifindex: device.lxc1, mapRow: ordinary(device.lxc1) });
  guard = new Guard({
    ...{ pins, datapath, clock, periodMs: 1000, held: () => operations.held(), beforeHooks: () => undefined },
    onRepaired: (message) => reports.push(message),
    onFailed: (message) => reports.push(message),
  });
}

/** One round of the guard. Returns what it repaired or could not repair. */
function look(): string[] {
  guard.look();
  return reports.splice(0);
}

const own = (isIngress: boolean): number => programId(datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'));
/** The TCX programs on a hook of lxc1 in their order: "ours", or "theirs". */
const tcx = (isIngress: boolean): string[] => tcxPrograms(device.lxc1, isIngress).map((id) => (id === own(isIngress) ? 'ours' : 'theirs'));
/** The clsact filters on a hook of lxc1 in their order. */
const filters = (isIngress: boolean): string[] =>
  clsactFilters(device.lxc1, isIngress).map(({ programId: id, kind }) => (id === own(isIngress) ? 'ours' : kind));
const kinds = (): string[] => operations.attachments().map(({ kind }) => kind);
const at = (isIngress: boolean, place: 'first' | 'last') => ({ ifindex: device.lxc1, isIngress, place });
const another = (): Foreign => {
  const made = new Foreign();
  others.push(made);
  return made;
};
const foreignFilter = (direction: 'ingress' | 'egress', priority?: number): void =>
  foreign.filter('foreign_count', { dev: 'lxc1', direction, bpffs: bpffs.path, ...(priority === undefined ? {} : { priority }) });

beforeAll(() => enterNamespace());

beforeEach(() => {
  bpffs = new Bpffs();
  pins = new PinDirectory(join(bpffs.path, 'sluice'));
  pins.open();
  datapath = new Datapath(pins, { objectsPath, sizes: smallSizes });
  datapath.load();
  clock = new FakeClock();
  foreign = new Foreign();
});

afterEach(() => {
  operations.close();
  datapath.close();
  for (const each of [foreign, ...others.splice(0)]) each.close();
  for (const kind of tc('qdisc', 'show', 'dev', 'lxc1')
    .match(/clsact|ingress/g)
    ?.slice(0, 1) ?? [])
    tc('qdisc', 'delete', 'dev', 'lxc1', kind);
  bpffs.close();
});

describe('TCX programs of another owner', () => {
  test('ours are first at ingress and last at egress of a device that has programs of others already', () => {
    foreign.attach('foreign_count', at(true, 'first'));
    foreign.attach('foreign_note', at(false, 'last'));
    start();
    expect([tcx(true), tcx(false)]).toEqual([
      ['ours', 'theirs'],
      ['theirs', 'ours'],
    ]);
    expect(look()).toEqual([]);
  });

  test.for([
    { isIngress: true, place: 'first', want: ['ours', 'theirs'], says: 'tc_pod_in on lxc1: moved before foreign_count' },
    { isIngress: false, place: 'last', want: ['theirs', 'ours'], says: 'tc_pod_out on lxc1: moved behind foreign_count' },
  ] as const)('a program that takes the place $place (ingress: $isIngress) loses it in the next round', (each) => {
    start();
    foreign.attach('foreign_count', at(each.isIngress, each.place));
    expect(tcx(each.isIngress)).toEqual(each.want.toReversed());
    expect(look()).toEqual([each.says]);
    expect(tcx(each.isIngress)).toEqual(each.want);
    expect(look()).toEqual([]);
    // The pin is that of the new link, and no second link and no copy of the program remain.
    const pinned = openPin(pins.pathOf('links', `${each.isIngress ? 'tc_pod_in' : 'tc_pod_out'}-${device.lxc1}`)) ?? -1;
    expect(linkInfo(pinned)).toMatchObject({ programId: own(each.isIngress), ifindex: device.lxc1 });
    closeFd(pinned);
    operations.close();
    expect(tcx(each.isIngress)).toEqual(each.want);
  });

  test('a program that takes the other end of the hook is left there', () => {
    start();
    foreign.attach('foreign_count', at(true, 'last'));
    foreign.attach('foreign_count', at(false, 'first'));
    expect(look()).toEqual([]);
    expect([tcx(true), tcx(false)]).toEqual([
      ['ours', 'theirs'],
      ['theirs', 'ours'],
    ]);
  });

  test('the new link is made before the old one is detached, so a full hook keeps our program', () => {
    start();
    // The kernel accepts 63 programs on a hook. Each set of programs has four.
    for (let free = 62; free > 0; free -= 4) {
      const set = another();
      for (const name of (['foreign_count', 'foreign_no_udp', 'foreign_note', 'foreign_answers'] as const).slice(0, free))
        set.attach(name, at(true, 'first'));
    }
    const before = tcxPrograms(device.lxc1, true);
    expect(before).toHaveLength(63);
    expect(look()).toEqual([expect.stringMatching(/^tc_pod_in on lxc1 could not be repaired: .*ERANGE/)]);
    expect(tcxPrograms(device.lxc1, true)).toEqual(before);
    others.pop()?.close();
    clock.advance(MOVE_INTERVAL_MS);
    expect(look()).toEqual([expect.stringMatching(/^tc_pod_in on lxc1: moved before /)]);
    expect(tcx(true)[0]).toBe('ours');
  });

  test('two agents that both insist on the same place do not move for ever', () => {
    start();
    const take = (): (() => void) => foreign.attach('foreign_count', at(true, 'first'));
    let giveUp = take();
    const times: number[] = [];
    for (let second = 0; second < 3600; second += 30) {
      if (look().length > 0) {
        times.push(second);
        expect(tcx(true)).toEqual(['ours', 'theirs']);
        // The other agent takes its place back at once.
        giveUp();
        giveUp = take();
      }
      clock.advance(30_000);
    }
    expect(times).toEqual([0, MOVE_INTERVAL_MS / 1000, (2 * MOVE_INTERVAL_MS) / 1000]);
    expect(times).toHaveLength(MOVES_PER_HOUR);
    expect(tcx(true)).toEqual(['theirs', 'ours']);
    // The first move was an hour ago.
    expect(look()).toHaveLength(1);
    expect(tcx(true)).toEqual(['ours', 'theirs']);
  });

  test('a link that an earlier daemon pinned in another place is taken over and then moved', () => {
    start();
    foreign.attach('foreign_count', at(true, 'first'));
    operations.close();
    start();
    expect(tcx(true)).toEqual(['theirs', 'ours']);
    expect(look()).toHaveLength(1);
    expect(tcx(true)).toEqual(['ours', 'theirs']);
  });
});

describe('clsact filters of another owner', () => {
  test('on a device that has them already, ours is the last filter at egress and a TCX link at ingress', () => {
    foreignFilter('ingress');
    foreignFilter('egress');
    foreign.attach('foreign_note', at(false, 'last'));
    start();
    expect(kinds()).toEqual(['tcx', 'clsact']);
    expect([tcx(true), tcx(false)]).toEqual([['ours'], ['theirs']]);
    expect([filters(true), filters(false)]).toEqual([['bpf'], ['bpf', 'ours']]);
    expect(look()).toEqual([]);
    operations.close();
    start();
    datapath.reload(() => {
      for (const { program, attached } of operations.held()) attached.replace(datapath.program(program));
    });
    expect([tcx(true), filters(false)]).toEqual([['ours'], ['bpf', 'ours']]);
    expect(look()).toEqual([]);
  });

  test.for([{ priority: 1 }, { priority: 49_152 }, { priority: 65_535 }])(
    'a filter of priority $priority that appears at egress makes ours a filter behind it',
    ({ priority }) => {
      start();
      foreignFilter('egress', priority);
      expect(look()).toEqual(['tc_pod_out on lxc1: moved behind the filter foreign_count_lxc1_egress']);
      expect(kinds()).toEqual(['tcx', 'clsact']);
      expect(tcx(false)).toEqual([]);
      // Of two filters with one priority, the newer one runs first.
      expect(filters(false)).toEqual(priority === 65_535 ? ['ours', 'bpf'] : ['bpf', 'ours']);
      expect(pins.list('links')).toEqual([`tc_pod_in-${device.lxc1}`]);
      expect(look()).toEqual([]);
    },
  );

  test('filters of another kind are respected too, also with the priority that ours would take', () => {
    start();
    tc('qdisc', 'add', 'dev', 'lxc1', 'clsact');
    tc('filter', 'add', 'dev', 'lxc1', 'egress', 'prio', '65535', 'protocol', 'ip', 'u32', 'match', 'u32', '0', '0', 'flowid', '1:1');
    expect(look()).toEqual(['tc_pod_out on lxc1: moved behind the filter u32']);
    expect(filters(false).filter((kind) => kind === 'ours')).toHaveLength(1);
    expect(clsactFilters(device.lxc1, false).find(({ isOurs }) => isOurs)?.priority).toBe(65_534);
  });

  test('filters at ingress and an ingress qdisc change nothing, because a TCX link runs before them', () => {
    start();
    foreignFilter('ingress');
    expect(look()).toEqual([]);
    tc('qdisc', 'delete', 'dev', 'lxc1', 'clsact');
    tc('qdisc', 'add', 'dev', 'lxc1', 'ingress');
    tc('filter', 'add', 'dev', 'lxc1', 'ingress', 'prio', '1', 'protocol', 'ip', 'u32', 'match', 'u32', '0', '0', 'flowid', '1:1');
    expect(clsactFilters(device.lxc1, true)).not.toEqual([]);
    expect(clsactFilters(device.lxc1, false)).toEqual([]);
    expect(look()).toEqual([]);
    expect(kinds()).toEqual(['tcx', 'tcx']);
  });

  test('when the clsact qdisc is deleted with all filters, ours becomes a TCX link again', () => {
    foreignFilter('egress');
    start();
    tc('qdisc', 'delete', 'dev', 'lxc1', 'clsact');
    expect(look()).toEqual(['tc_pod_out on lxc1: filter was missing']);
    expect(kinds()).toEqual(['tcx', 'tcx']);
    expect(tcx(false)).toEqual(['ours']);
    expect(pins.list('links')).toHaveLength(2);
    expect(pins.list('clsact')).toEqual([]);
    expect(look()).toEqual([]);
  });

  test('when the device is detached, the filter goes and those of others stay', () => {
    foreignFilter('egress');
    start();
    operations.delete(device.lxc1);
    expect([tcx(true), filters(false)]).toEqual([[], ['bpf']]);
  });

  test('uninstall removes the link and the filter, and leaves those of others', async () => {
    foreignFilter('egress');
    start();
    operations.close();
    const [inId, outId] = [own(true), own(false)];
    datapath.close();
    for (const { remove } of removals({ pinPath: pins.path, socket: join(bpffs.path, 'none/s.sock') })) remove();
    // The kernel detaches a link a moment after its last pin is removed.
    await expect.poll(() => tcxPrograms(device.lxc1, true)).not.toContain(inId);
    const left = clsactFilters(device.lxc1, false);
    expect(left.map(({ isOurs }) => isOurs)).toEqual([false]);
    expect(left.map(({ programId: id }) => id)).not.toContain(outId);
  });

  test('without TCX, ours are filters: the first at ingress and the last at egress', () => {
    foreignFilter('ingress', 1);
    foreignFilter('egress', 40_000);
    start(false);
    expect([filters(true), filters(false)]).toEqual([
      ['ours', 'bpf'],
      ['bpf', 'ours'],
    ]);
    expect(look()).toEqual([]);
  });
});
