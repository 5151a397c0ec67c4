// SPDX-License-Identifier: Apache-2.0
// The daemon is ended by SIGTERM, SIGINT or SIGKILL under traffic and starts again. The pinned programs continue to serve; the next daemon
// takes them over and writes nothing if nothing has changed. The results are read from clients, bpftool and the files of the bpffs.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BpfMap, openPin } from '../../daemon/kernel/map.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import { dumpMaps } from '../support/dump-maps.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { pinnedLinks } from '../support/lab/bpf-objects.ts';

let lab: Lab;
let daemon: Daemon;

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 2, 3, 9]) lab.addPod(number);
  await Promise.all([1, 2, 3].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1, 2, 3]));
});

afterEach(() => lab.close());

const dataMaps = ['lb_config', 'lb4_frontends', 'lb6_frontends', 'lb_services', 'lb_slots', 'lb4_backends', 'lb6_backends'];

/** Returns the content of the data maps, as bpftool reads them. */
const dump = (): string[] => dataMaps.map((name) => sh('bpftool', 'map', 'dump', 'pinned', join(lab.bpffs, 'sluice/maps', name)));

/** The content of the pinned maps, with ids and slots replaced by the objects that they refer to. */
function canonical({ bpffs }: Lab): string[] {
  const opened: BpfMap[] = [];
  const maps = kernelMaps((name) => {
    const map = new BpfMap(openPin(join(bpffs, 'sluice/maps', name)) ?? -1);
    opened.push(map);
    return map;
  });
  const lines = dumpMaps(maps);
  for (const map of opened) map.close();
  return lines;
}

const linkIds = (): number[] => pinnedLinks(join(lab.bpffs, 'sluice/links')).map((link) => link.id);

test.for(['SIGTERM', 'SIGHUP'] as const)('%s while the programs are loaded does not end the daemon with an error', async (signal) => {
  const ready = daemon.start({ hasSocketLb: false }).catch(() => undefined);
  const { process } = daemon;
  // The daemon pins its maps before the verifier checks the programs, which takes most of the start.
  while (!existsSync(join(lab.bpffs, 'sluice/maps'))) await new Promise((resolve) => setTimeout(resolve, 1));
  process?.signal(signal);
  if (signal === 'SIGHUP') await process?.line((line) => line.includes('"msg":"ready"'));
  else expect(await process?.ended).toBe(0);
  await ready;
});

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  test.for([{ signal: 'SIGTERM' }, { signal: 'SIGINT' }, { signal: 'SIGKILL' }] as const)(
    'after $signal the daemon ends in time, traffic continues, and the next daemon takes over',
    async ({ signal }) => {
      await daemon.start({ hasSocketLb });
      const client = await Client.start(lab, 'pod9');
      const before = { dump: dump(), links: linkIds() };
      const traffic = (count: number) => client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count });

      const running = traffic(2000);
      // The exit code is 0 only if everything has stopped within 5 s. Otherwise the daemon exits with 1 after 5 s.
      expect(await daemon.process?.kill(signal)).toBe(signal === 'SIGKILL' ? -1 : 0);
      expect((await running).failures).toEqual({});

      const dead = await traffic(500);
      expect(dead.failures).toEqual({});
      expect(Object.keys(dead.answers).sort()).toEqual(['pod1', 'pod2', 'pod3']);
      expect(dump()).toEqual(before.dump);

      const across = traffic(3000);
      await daemon.start({ hasSocketLb });
      expect((await across).failures).toEqual({});
      expect(linkIds()).toEqual(before.links);
      expect(dump()).toEqual(before.dump);
    },
  );
});

test('a change made while the daemon is not running is applied at the next start', async () => {
  await daemon.start({ hasSocketLb: false });
  await daemon.process?.kill('SIGKILL');
  daemon.write('web.yaml', service('web'), ...slices('web', [2]));
  await daemon.start({ hasSocketLb: false });
  const client = await Client.start(lab, 'pod9');
  expect(await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 100 })).toMatchObject({
    failures: {},
    answers: { pod2: 100 },
  });
});

test('after changes between two runs, the maps equal those of a first start with the same files', async () => {
  await daemon.start({ hasSocketLb: true });
  daemon.write('gone.yaml', service('gone', { IPv4: '10.96.0.11', IPv6: 'fd00:96::11' }), ...slices('gone', [1, 2]));
  daemon.write('kept.yaml', service('kept', { IPv4: '10.96.0.12', IPv6: 'fd00:96::12' }), ...slices('kept', [3, 1]));
  await daemon.settled((services) => services.some(({ key }) => key.startsWith('default/kept')));
  await daemon.process?.kill('SIGKILL');
  const change = (to: Daemon): void => {
    to.write('gone.yaml', service('new', { IPv4: '10.96.0.13', IPv6: 'fd00:96::13' }), ...slices('new', [2]));
    to.write('kept.yaml', service('kept', { IPv4: '10.96.0.12', IPv6: 'fd00:96::12' }), ...slices('kept', [1, 2]));
    to.write('web.yaml', service('web', { IPv4: '10.96.0.14', IPv6: 'fd00:96::10' }), ...slices('web', [3, 2]));
  };
  change(daemon);
  await daemon.start({ hasSocketLb: true });
  const clean = new Lab();
  try {
    const fresh = new Daemon(clean);
    change(fresh);
    await fresh.start({ hasSocketLb: true });
    const wanted = canonical(clean);
    expect(wanted.join('\n')).toMatch(/^FE 10\.96\.0\.13:80\/TCP/m);
    expect(canonical(lab)).toEqual(wanted);
  } finally {
    await clean.close();
  }
});

test('a start with unreadable input removes no entries; unwanted entries are removed when the input can be read', async () => {
  await daemon.start({ hasSocketLb: false });
  await daemon.process?.kill('SIGKILL');
  writeFileSync(join(daemon.source, 'web.yaml'), 'kind: Service\nmetadata: {name: web\n');
  await daemon.start({ hasSocketLb: false });
  const client = await Client.start(lab, 'pod9');
  expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 100 })).failures).toEqual({});
  daemon.write('web.yaml', service('other', { IPv4: '10.96.0.20', IPv6: 'fd00:96::20' }));
  await daemon.settled((services) => services.length > 0 && services.every((each) => each.key.startsWith('default/other')));
});

test('switching socket translation off detaches the socket hooks, and switching it on attaches them', async () => {
  const hooks = (): number =>
    sh('bpftool', 'cgroup', 'show', lab.cgroup)
      .split('\n')
      .filter((line) => line.includes('sock_')).length;
  for (const hasSocketLb of [true, false, true]) {
    await daemon.start({ hasSocketLb });
    expect(hooks()).toBe(hasSocketLb ? 8 : 0);
    expect(await daemon.process?.kill('SIGTERM')).toBe(0);
  }
});

describe('a second daemon', () => {
  test('a second daemon with the same pin path is rejected, and the first one continues', async () => {
    await daemon.start({ hasSocketLb: true });
    const second = lab.start('node', [process.execPath, 'daemon/main.ts', ...daemon.flags(true)]);
    expect(await second.ended).toBe(4);
    expect(second.lines.filter((line) => line.startsWith('sluiced:'))).toEqual([
      expect.stringMatching(/another sluiced holds .*--pin-path/),
    ]);
    expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  });

  test('a second daemon with the same socket is rejected; the socket of a killed daemon does not prevent a start', async () => {
    await daemon.start({ hasSocketLb: true });
    const flags = daemon.flags(true).map((flag) => (flag.endsWith('/sluice') ? `${flag}-2` : flag === lab.cgroup ? '' : flag));
    const second = lab.start('node', [
      process.execPath,
      'daemon/main.ts',
      ...flags.filter((flag) => flag !== '--cgroup' && flag !== ''),
      '--socket-lb',
      'off',
    ]);
    expect(await second.ended).toBe(4);
    await daemon.process?.kill('SIGKILL');
    await daemon.start({ hasSocketLb: true });
    expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  });

  test('a second daemon in another network namespace of the same machine serves its own Services', async () => {
    await daemon.start({ hasSocketLb: true });
    const other = new Lab();
    try {
      for (const number of [1, 9]) other.addPod(number);
      await Server.start(other, { netns: 'pod1', name: 'elsewhere' });
      const theirs = new Daemon(other);
      theirs.write('web.yaml', service('web'), ...slices('web', [1]));
      await theirs.start({ hasSocketLb: true });
      const [here, there] = await Promise.all([Client.start(lab, 'pod9'), Client.start(other, 'pod9')]);
      const task = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 200 } as const;
      const [own, foreign] = await Promise.all([here.ask(task), there.ask(task)]);
      expect(Object.keys(own.answers).sort()).toEqual(['pod1', 'pod2', 'pod3']);
      expect(foreign).toMatchObject({ failures: {}, answers: { elsewhere: 200 } });
    } finally {
      await other.close();
    }
  });
});
