// SPDX-License-Identifier: Apache-2.0
// Attaching on a kernel without TCX, where programs are filters on clsact. An option of DeviceOperations simulates this kernel. A
// reload replaces each filter, a repair restores a filter that was deleted alone or with its qdisc, and uninstall removes all filters.
// A daemon on a kernel with TCX replaces each filter by a TCX link. The tests verify the filters with `tc`.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { Datapath } from '../../daemon/bpf/datapath.ts';
import { DeviceOperations } from '../../daemon/bpf/devices.ts';
import { Guard } from '../../daemon/bpf/guard.ts';
import { PinDirectory } from '../../daemon/bpf/pins.ts';
import { Sockets } from '../../daemon/bpf/sockets.ts';
import { removals } from '../../daemon/bpf/uninstall.ts';
import type { DesiredDevice } from '../../daemon/model/device.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import { Table } from '../../daemon/table/table.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { Bpffs, devices as device, enterNamespace, objectsPath, smallSizes } from './fixture.ts';
import { ordinary } from '../support/builders.ts';

let bpffs: Bpffs;
let pins: PinDirectory;
let datapath: Datapath;
let devices: Devices;
const repairs: string[] = [];

const tc = (...args: readonly string[]): string => execFileSync('tc', args, { encoding: 'utf8' });
const filters = (direction: 'ingress' | 'egress'): string[] =>
  [...tc('filter', 'show', 'dev', 'lxc1', direction).matchAll(/ (tc_\w+)(?::\[\d+\])? direct-action/g)].map((match) => match[1] ?? '');

interface Devices {
  readonly operations: DeviceOperations;
  stop(): void;
}

/** Attaches programs to lxc1 and eth0, as the daemon does. */
function follow(hasTcx: boolean): Devices {
  const log = pino({ level: 'silent' });
  const operations = new DeviceOperations({ datapath, pins, log, hasTcx });
  const table = new Table<number, DesiredDevice>('devices', setImmediate);
  const finish = table.registerSource('test');
  table.upsert(device.lxc1, {
    ifindex: device.lxc1,
    name: 'lxc1',
    role: 'pod',
    linkHeader: 'ethernet',
    appearance: 1,
    mapRow: ordinary(device.lxc1),
  });
  table.upsert(device.eth0, {
    ifindex: device.eth0,
    name: 'eth0',
    role: 'uplink',
    linkHeader: 'ethernet',
    appearance: 2,
    mapRow: ordinary(device.eth0),
  });
  finish();
  const fail = (what: unknown, error: Error): never => {
    throw new Error(`${String(what)}: ${error.message}`);
  };
  const loop = new Reconciler<number, DesiredDevice>({
    ...{ table, operations, clock: new FakeClock(), schedule: setImmediate },
    log: { rowFailed: fail, rowRecovered() {}, stepFailed: fail, stepRecovered() {}, repaired() {} },
  });
  loop.start();
  return {
    operations,
    stop() {
      loop.stop();
      operations.close();
    },
  };
}

function look(): string[] {
  const sockets = new Sockets(pins, datapath);
  const guard = new Guard({
    ...{ pins, datapath, clock: new FakeClock(), periodMs: 1000 },
    held: () => [...sockets.held(), ...devices.operations.held()],
    beforeHooks: () => undefined,
    onRepaired: (message) => repairs.push(message),
    onFailed: (message) => repairs.push(message),
  });
  guard.look();
  return repairs.splice(0);
}

beforeAll(() => enterNamespace());

beforeEach(() => {
  bpffs = new Bpffs();
  pins = new PinDirectory(join(bpffs.path, 'sluice'));
  pins.open();
  datapath = new Datapath(pins, { objectsPath, sizes: smallSizes });
  datapath.load();
  devices = follow(false);
});

afterEach(() => {
  devices.stop();
  datapath.close();
  for (const name of ['lxc1', 'eth0']) {
    try {
      tc('qdisc', 'delete', 'dev', name, 'clsact');
    } catch {
      // The test has already deleted the qdisc.
    }
  }
  bpffs.close();
});

test('each program is attached once, also after a restart and a reload', () => {
  expect([filters('ingress'), filters('egress')]).toEqual([['tc_pod_in'], ['tc_pod_out']]);
  expect(new Set(devices.operations.attachments().map(({ kind }) => kind))).toEqual(new Set(['clsact']));
  devices.stop();
  devices = follow(false);
  datapath.reload(() => {
    for (const { program, attached } of devices.operations.held()) attached.replace(datapath.program(program));
  });
  expect([filters('ingress'), filters('egress')]).toEqual([['tc_pod_in'], ['tc_pod_out']]);
  expect(look()).toEqual([]);
});

test.for([
  { what: 'the filter', remove: () => tc('filter', 'delete', 'dev', 'lxc1', 'ingress'), says: ['tc_pod_in on lxc1: filter was missing'] },
  {
    what: 'the qdisc',
    remove: () => tc('qdisc', 'delete', 'dev', 'lxc1', 'clsact'),
    says: ['tc_pod_in on lxc1: filter was missing', 'tc_pod_out on lxc1: filter was missing'],
  },
  {
    what: 'the pin',
    remove: () => pins.remove('clsact', `tc_pod_in-${device.lxc1}`),
    says: ['tc_pod_in on lxc1: pin was missing'],
  },
])('$what is restored after another program deleted it', ({ remove, says }) => {
  const before = pins.list('clsact');
  remove();
  expect(look().sort()).toEqual(says);
  expect([filters('ingress'), filters('egress')]).toEqual([['tc_pod_in'], ['tc_pod_out']]);
  expect(pins.list('clsact')).toEqual(before);
  expect(look()).toEqual([]);
});

test('a daemon on a kernel with TCX attaches links and removes the filters of the previous daemon', () => {
  devices.stop();
  devices = follow(true);
  expect([filters('ingress'), filters('egress')]).toEqual([[], []]);
  expect(tcxPrograms(device.lxc1, true)).toHaveLength(1);
  expect(pins.list('clsact')).toEqual([]);
});

test('uninstall removes the filters', () => {
  devices.stop();
  datapath.close();
  for (const { remove } of removals({ pinPath: pins.path, socket: join(bpffs.path, 'none/s.sock') })) remove();
  expect([filters('ingress'), filters('egress')]).toEqual([[], []]);
});
