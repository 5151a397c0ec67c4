// SPDX-License-Identifier: Apache-2.0
// The programs on the hooks of this daemon, as the kernel lists them: missing programs of this daemon, programs of another sluiced, and
// programs of other owners, whose place is reported. Tested with TCX and with clsact filters, in a private namespace and bpffs.
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { HookInspection } from '../../daemon/bpf/hook-inspection.ts';
import { PinDirectory } from '../../daemon/bpf/pins.ts';
import { attachClsact, detachClsact } from '../../daemon/kernel/clsact.ts';
import { attachTcx, programNameById } from '../../daemon/kernel/link.ts';
import { closeFd, pin } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import type { DesiredDevice } from '../../daemon/model/device.ts';
import { Foreign } from '../support/lab/foreign.ts';
import { sh } from '../support/lab/shell.ts';
import { Bpffs, devices, enterNamespace, Loaded, objectsPath } from './fixture.ts';
import { ordinary } from '../support/builders.ts';

let bpffs: Bpffs;
let loaded: Loaded;
let now = 0;
let desired: DesiredDevice[];
const close: (() => void)[] = [];

beforeAll(() => enterNamespace());
beforeEach(() => {
  bpffs = new Bpffs();
  loaded = new Loaded(bpffs);
  close.push(
    () => bpffs.close(),
    () => loaded.datapath.close(),
  );
  desired = [{ ifindex: devices.lxc3, name: 'lxc3', role: 'pod', linkHeader: 'ethernet', appearance: 1, mapRow: ordinary(devices.lxc3) }];
});
afterEach(() => {
  for (const task of close.splice(0).toReversed()) task();
});

const nothing = { missing: [], others: [], displaced: [], ahead: [] };
const pins = (): PinDirectory => new PinDirectory(join(bpffs.path, 'sluice'));

function inspection(hasTcx: boolean, hasSocketLb = false): HookInspection {
  return new HookInspection({
    ...{ datapath: loaded.datapath, pins: pins(), devices: () => desired, cgroup: () => undefined, hasSocketLb, hasTcx },
    now: () => (now += 60_000),
  });
}

/** Loads a second set of programs, with maps that are pinned below another path of the same bpffs. */
function secondDatapath(): { readonly program: (name: string) => number; readonly pins: PinDirectory } {
  const other = new PinDirectory(join(bpffs.path, 'other'));
  other.open();
  const object = new BpfObject(join(objectsPath, 'tc_pod.bpf.o'));
  object.load();
  close.push(() => object.close());
  return { program: (name) => object.programFd(name), pins: other };
}

function attach(program: number, isIngress: boolean): number {
  const link = attachTcx(program, devices.lxc3, isIngress);
  close.push(() => closeFd(link));
  return link;
}

describe('TCX', () => {
  test('a program is reported as missing until it is attached to its hook', () => {
    const findings = (): ReturnType<HookInspection['findings']> => inspection(true).findings();
    const message = (name: string): unknown =>
      expect.stringMatching(new RegExp(`^${name} on lxc3 is not attached: sluiced attaches it again`));
    expect(findings().missing).toEqual([message('tc_pod_in'), message('tc_pod_out')]);
    attach(loaded.datapath.program('tc_pod_in'), true);
    expect(findings().missing).toEqual([message('tc_pod_out')]);
    attach(loaded.datapath.program('tc_pod_out'), false);
    expect(findings()).toEqual(nothing);
  });

  test('a program of another owner is reported only with its place: in the place of ours, or ahead of ours at egress', () => {
    for (const isIngress of [true, false]) attach(loaded.datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'), isIngress);
    const foreign = new Foreign();
    close.push(() => foreign.close());
    const at = (isIngress: boolean, place: 'first' | 'last') => ({ ifindex: devices.lxc3, isIngress, place });
    foreign.attach('foreign_note', at(true, 'last'));
    expect(inspection(true).findings()).toEqual(nothing);
    foreign.attach('foreign_answers', at(false, 'first'));
    const ahead = [expect.stringMatching(/^the program foreign_answers runs before tc_pod_out on lxc3: it may end the chain/)];
    expect(inspection(true).findings()).toEqual({ ...nothing, ahead });
    foreign.attach('foreign_count', at(true, 'first'));
    foreign.attach('foreign_count', at(false, 'last'));
    expect(inspection(true).findings()).toEqual({
      ...{ ...nothing, ahead },
      displaced: [
        expect.stringMatching(/^the program foreign_count runs before tc_pod_in on lxc3: .* at most once in 60 s and 3 times in an hour/),
        expect.stringMatching(/^the program foreign_count runs after tc_pod_out on lxc3: it sees packets after they are translated/),
      ],
    });
  });

  test('filters of other owners at egress are reported with their names, and a filter that is no BPF program with its kind', () => {
    for (const isIngress of [true, false]) attach(loaded.datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'), isIngress);
    const foreign = new Foreign();
    close.push(() => foreign.close());
    for (const direction of ['ingress', 'egress'] as const)
      foreign.filter('foreign_note', { dev: 'lxc3', direction, bpffs: bpffs.path, priority: 7 });
    close.push(() => sh('tc', 'qdisc', 'delete', 'dev', 'lxc3', 'clsact'));
    sh('tc', ...'filter add dev lxc3 egress prio 3 protocol ip u32 match u32 0 0 flowid 1:1'.split(' '));
    const { displaced, ahead } = inspection(true).findings();
    expect([displaced, ahead]).toEqual([
      [
        expect.stringMatching(/^the filter u32 runs after tc_pod_out on lxc3/),
        expect.stringMatching(/^the filter foreign_note_lxc3_egress runs after tc_pod_out on lxc3/),
      ],
      [],
    ]);
  });

  test('programs of another sluiced are found by their name, and their pin path is reported if they are pinned', () => {
    for (const isIngress of [true, false]) attach(loaded.datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'), isIngress);
    const second = secondDatapath();
    const link = attach(second.program('tc_pod_in'), true);
    expect(inspection(true).findings().others).toEqual([
      expect.stringMatching(/^programs of another sluiced, with an unknown pin path, are on the hooks of this one \(tc_pod_in on lxc3\)/),
    ]);
    pin(link, second.pins.pathOf('links', `tc_pod_in-${devices.lxc3}`));
    expect(inspection(true).findings().others).toEqual([
      expect.stringMatching(
        new RegExp(`with the pin path ${second.pins.path}, .* run \`sluice uninstall --pin-path ${second.pins.path}\`$`),
      ),
    ]);
  });

  test('a device that no longer exists is ignored', () => {
    desired = [{ ifindex: 999_999, name: 'gone', role: 'pod', linkHeader: 'ethernet', appearance: 1, mapRow: ordinary(999_999) }];
    expect(inspection(true).findings()).toEqual(nothing);
  });
});

test('with clsact, a missing filter is reported, and also a filter that another sluiced has replaced', () => {
  const findings = (): ReturnType<HookInspection['findings']> => inspection(false).findings();
  expect(findings().missing).toHaveLength(2);
  for (const isIngress of [true, false]) {
    attachClsact(loaded.datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'), devices.lxc3, isIngress);
    close.push(() => detachClsact(devices.lxc3, isIngress));
  }
  expect(findings()).toEqual(nothing);
  attachClsact(secondDatapath().program('tc_pod_in'), devices.lxc3, true);
  expect(findings()).toEqual({
    ...nothing,
    missing: [expect.stringContaining('tc_pod_in on lxc3 is not attached')],
    others: [expect.stringContaining('programs of another sluiced')],
  });
});

test('socket programs are reported as missing if the settings require them and no cgroup has them', () => {
  desired = [];
  expect(inspection(true, true).findings().missing).toEqual(['the socket programs are not attached to a cgroup: the log says why']);
  expect(inspection(true, false).findings().missing).toEqual([]);
});

test('a second inspection within one second returns the result of the first', () => {
  let time = 0;
  const options = { datapath: loaded.datapath, pins: pins(), devices: () => desired, cgroup: () => undefined, hasSocketLb: false };
  const kept = new HookInspection({ ...options, hasTcx: true, now: () => time });
  expect(kept.findings().missing).toHaveLength(2);
  attach(loaded.datapath.program('tc_pod_in'), true);
  time = 999;
  expect(kept.findings().missing).toHaveLength(2);
  time = 1000;
  expect(kept.findings().missing).toHaveLength(1);
});

test('the name of a program that does not exist is unknown', () => {
  expect(programNameById(0x7fffffff)).toBeUndefined();
});

test('the inspection of 250 pods finds no problem, and its time is printed', () => {
  for (const isIngress of [true, false]) attach(loaded.datapath.program(isIngress ? 'tc_pod_in' : 'tc_pod_out'), isIngress);
  const [device] = desired as [DesiredDevice];
  desired = Array.from({ length: 250 }, () => device);
  const all = inspection(true);
  all.findings();
  const began = performance.now();
  for (let round = 0; round < 10; round += 1) expect(all.findings()).toEqual(nothing);
  // The time depends on the load of the machine, so it is printed and not checked.
  console.log(`inspection of 500 hooks: ${((performance.now() - began) / 10).toFixed(1)} ms`);
});
