// SPDX-License-Identifier: Apache-2.0
// A restart with unchanged input writes nothing: strace of the next daemon shows no update, no delete and no writable mapping of a
// pinned map, and bpftool reads the same bytes. The positive control: when one backend has changed, strace shows the writes.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { sh } from '../support/lab/shell.ts';
import { followMaps, type MapTrace, tracedCalls } from '../support/lab/strace.ts';

const dataMaps = ['lb_config', 'lb4_frontends', 'lb6_frontends', 'lb_services', 'lb_slots', 'lb4_backends', 'lb6_backends'];

let lab: Lab;
let daemon: Daemon;

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 2]) lab.addPod(number);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
  daemon.write('other.yaml', service('other', { IPv4: '10.96.0.11', IPv6: 'fd00:96::11' }), ...slices('other', [2]));
  await daemon.start({ hasSocketLb: true });
  await daemon.process?.kill('SIGKILL');
});

afterEach(() => lab.close());

const dump = (): string[] => dataMaps.map((name) => sh('bpftool', 'map', 'dump', 'pinned', join(lab.bpffs, 'sluice/maps', name)));

/** Runs the next daemon from start to end, including drift checks. Returns its calls on maps. */
async function traceNextDaemon(): Promise<MapTrace> {
  const log = join(lab.directory, 'strace.log');
  const command = ['strace', '-f', '-qq', '-o', log, '-e', `trace=${tracedCalls}`, process.execPath, 'daemon/main.ts'];
  const traced = lab.start('node', [...command, ...daemon.flags(true), '--sync-period', '200ms']);
  await traced.line((line) => line.includes('"msg":"ready"'));
  // The status and the list of Services read every map. They take longer than two periods of drift checks.
  daemon.cli('status');
  daemon.cli('service', 'list');
  const child = readFileSync(`/proc/${traced.pid}/task/${traced.pid}/children`, 'utf8').trim();
  process.kill(Number(child), 'SIGTERM');
  expect(await traced.ended).toBe(0);
  return followMaps(readFileSync(log, 'utf8'));
}

test('unchanged input causes no write', async () => {
  const before = dump();
  const { opened, writes } = await traceNextDaemon();
  // Proves that the trace contains the maps.
  expect([...opened]).toEqual(expect.arrayContaining(dataMaps));
  expect(writes).toEqual([]);
  expect(dump()).toEqual(before);
});

test('a changed backend causes writes', async () => {
  const before = dump();
  daemon.write('other.yaml', service('other', { IPv4: '10.96.0.11', IPv6: 'fd00:96::11' }), ...slices('other', [1]));
  const { writes } = await traceNextDaemon();
  expect(new Set(writes)).toEqual(
    new Set(['map lb4_backends writable', 'map lb6_backends writable', 'map lb_slots writable', 'map lb_services writable']),
  );
  expect(dump()).not.toEqual(before);
});

test('an added Service causes an update of its frontend', async () => {
  daemon.write('third.yaml', service('third', { IPv4: '10.96.0.12', IPv6: 'fd00:96::12' }), ...slices('third', [1]));
  const { writes } = await traceNextDaemon();
  expect(writes).toEqual(expect.arrayContaining(['update lb4_frontends', 'update lb6_frontends']));
});
