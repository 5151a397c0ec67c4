// SPDX-License-Identifier: Apache-2.0
// Somebody deletes, detaches or overwrites what is ours, with the tools that they would use: it is put back within a period
// and said, and what can go on meanwhile does. Witnesses: bpftool, the pins, clients.
import { existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { updateLink } from '../../daemon/kernel/link.ts';
import { closeFd, openPin } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';

let lab: Lab;
let daemon: Daemon;
let client: Client;
let ifindex: number;

beforeAll(async () => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  await Server.start(lab, { netns: 'pod1', name: 'pod1' });
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
  await daemon.start({ hasSocketLb: true, extra: ['--sync-period', '300ms'] });
  // A pod whose sockets are not translated: its packets need the tc programs.
  client = await Client.start(lab, 'pod9');
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'lxc9')) as { ifindex: number }[];
  ifindex = link?.ifindex ?? 0;
});

afterAll(() => lab.close());

const pin = (...parts: string[]): string => join(lab.bpffs, 'sluice', ...parts);
const serves = async (): Promise<void> => {
  for (const protocol of ['tcp', 'udp'] as const) {
    const port = protocol === 'tcp' ? 80 : 53;
    expect((await client.ask({ protocol, address: vips.IPv4, port, count: 10, timeoutMs: 1000 })).failures).toEqual({});
  }
};
const linkOf = (path: string): { id: number; prog_id: number } =>
  JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', path)) as { id: number; prog_id: number };
const pins = (): string[] => readdirSync(join(lab.bpffs, 'sluice'), { recursive: true }).map(String).sort();

/** Resolves when the log has said this since `from`. */
const said = (text: RegExp, from: number): Promise<string> =>
  daemon.process?.line((line) => line.includes('repaired: ') && text.test(line), from) ?? Promise.reject(new Error('no daemon'));

interface Case {
  readonly what: string;
  readonly spoil: () => void;
  readonly says: RegExp;
  /** Nothing may be interrupted: the flow goes on before it is put back, too. */
  readonly isSeamless: boolean;
}

const cases: readonly Case[] = [
  {
    what: 'a map entry',
    spoil: () => {
      const map = pin('maps/lb4_frontends');
      const entries = JSON.parse(sh('bpftool', '-j', 'map', 'dump', 'pinned', map)) as { key: string[] }[];
      for (const { key } of entries) sh('bpftool', 'map', 'delete', 'pinned', map, 'key', ...key.map((byte) => String(Number(byte))));
    },
    says: /entry 10\.96\.0\.10:80\/TCP of lb4_frontends was missing/,
    isSeamless: false,
  },
  {
    what: 'a tc link, detached',
    spoil: () => void sh('bpftool', 'link', 'detach', 'pinned', pin(`links/tc_pod_in-${ifindex}`)),
    says: /tc_pod_in on lxc9: link was detached/,
    isSeamless: false,
  },
  {
    what: 'a cgroup link, detached',
    spoil: () => void sh('bpftool', 'link', 'detach', 'pinned', pin('links/sock_connect4')),
    says: /sock_connect4 on .*: link was detached/,
    isSeamless: false,
  },
  {
    what: "a link's program, replaced",
    spoil: () => {
      const object = new BpfObject(join(import.meta.dirname, '../../datapath/gen/tc_uplink.bpf.o'));
      object.load({ sizes: { lb4_frontends: 8, lb6_frontends: 8, lb4_backends: 8, lb6_backends: 8, ct4: 64, ct6: 64, lb_slots: 8 } });
      const link = openPin(pin(`links/tc_pod_in-${ifindex}`)) ?? -1;
      updateLink(link, object.programFd('tc_uplink_in'));
      closeFd(link);
      object.close();
    },
    says: /tc_pod_in on lxc9 ran another program/,
    isSeamless: false,
  },
  {
    what: "a link's pin",
    spoil: () => rmSync(pin(`links/tc_pod_in-${ifindex}`)),
    says: /tc_pod_in on lxc9: pin was missing/,
    isSeamless: true,
  },
  { what: "a map's pin", spoil: () => rmSync(pin('maps/lb_services')), says: /map lb_services: pin was missing/, isSeamless: true },
  {
    what: "another map under our map's name",
    spoil: () => {
      // In one step: the guard would put ours back between a removal and a creation.
      const theirs = join(lab.bpffs, 'theirs');
      sh('bpftool', 'map', 'create', theirs, 'type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'theirs');
      renameSync(theirs, pin('maps/lb_drops'));
    },
    says: /map lb_drops: pin was missing/,
    isSeamless: true,
  },
  {
    what: 'every pin, and the directory',
    spoil: () => rmSync(pin(), { recursive: true }),
    says: /pin path .*: missing directories: links\/, clsact\/, maps\//,
    isSeamless: true,
  },
  {
    what: 'the configuration row',
    spoil: () => {
      const map = pin('maps/lb_config');
      const [row] = JSON.parse(sh('bpftool', '-j', 'map', 'dump', 'pinned', map)) as { value: string[] }[];
      const zeros = (row?.value ?? []).map(() => '0');
      sh('bpftool', 'map', 'update', 'pinned', map, 'key', '0', '0', '0', '0', 'value', ...zeros);
    },
    says: /map lb_config: row was changed/,
    isSeamless: true,
  },
];

test.for(cases)('$what: put back, and said', async ({ spoil, says, isSeamless }) => {
  await serves();
  const before = {
    pins: pins(),
    from: daemon.process?.lines.length ?? 0,
    config: sh('bpftool', 'map', 'dump', 'pinned', pin('maps/lb_config')),
  };
  const link = existsSync(pin(`links/tc_pod_in-${ifindex}`)) ? linkOf(pin(`links/tc_pod_in-${ifindex}`)) : undefined;
  spoil();
  if (isSeamless) await serves();
  await said(says, before.from);
  await serves();
  await daemon.settled(() => true);
  for (const until = Date.now() + 5000; pins().join() !== before.pins.join() && Date.now() < until;) await new Promise(setImmediate);
  expect(pins()).toEqual(before.pins);
  expect(sh('bpftool', 'map', 'dump', 'pinned', pin('maps/lb_config'))).toBe(before.config);
  if (isSeamless) expect(linkOf(pin(`links/tc_pod_in-${ifindex}`))).toEqual(link);
  expect(daemon.cli('status')).toMatch(/^Repairs: +Warning +\d+ differences? repaired$/m);
});

test('a second daemon is kept off also when the directory was made anew', async () => {
  const second = lab.start('node', [process.execPath, 'daemon/main.ts', ...daemon.flags(false), '--socket', `${daemon.socket}2`]);
  expect(await second.ended).toBe(4);
});

test('a bpffs that is unmounted under it: said, served on, and put back when it is mounted again', async () => {
  const from = daemon.process?.lines.length ?? 0;
  sh('umount', '-l', lab.bpffs);
  await daemon.process?.line((line) => line.includes('is not on a BPF file system'), from);
  await serves();
  expect(daemonStatus()).toMatch(/^Repairs: +Degraded/m);
  sh('mount', '-t', 'bpf', 'bpf', lab.bpffs);
  await said(/sock_connect4 .*: pin was missing/, from);
  await serves();
  for (const until = Date.now() + 5000; !daemonStatus().includes('Warning') && Date.now() < until;) await new Promise(setImmediate);
  expect(daemonStatus()).toMatch(/^Repairs: +Warning/m);
});

/** `sluice status` exits with 1 when something is degraded; its text is what we want. */
function daemonStatus(): string {
  return lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
}
