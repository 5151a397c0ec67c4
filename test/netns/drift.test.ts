// SPDX-License-Identifier: Apache-2.0
// Another program deletes, detaches or overwrites what Sluice has in the kernel. Sluice must repair it within a sync period and
// log the repair, and traffic that does not depend on the damaged part must continue. The results are read from bpftool, the pins
// and clients.
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
import { repeatedSyns } from '../support/lab/retransmissions.ts';

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
  // The sockets of this pod are not translated, so its packets need the tc programs.
  client = await Client.start(lab, 'pod9');
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'lxc9')) as { ifindex: number }[];
  ifindex = link?.ifindex ?? 0;
});

afterAll(() => lab.close());

const pin = (...parts: string[]): string => join(lab.bpffs, 'sluice', ...parts);
/** Every request must be answered without a retransmission. */
const serves = async (): Promise<void> => {
  const before = repeatedSyns(lab, 'pod9');
  for (const protocol of ['tcp', 'udp'] as const) {
    const port = protocol === 'tcp' ? 80 : 53;
    expect((await client.ask({ protocol, address: vips.IPv4, port, count: 10 })).failures).toEqual({});
  }
  expect(repeatedSyns(lab, 'pod9')).toBe(before);
};
const linkOf = (path: string): { id: number; prog_id: number } =>
  JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', path)) as { id: number; prog_id: number };
const pins = (): string[] => readdirSync(join(lab.bpffs, 'sluice'), { recursive: true }).map(String).sort();

/** Resolves when the log contains this repair after line `from`. */
const said = (text: RegExp, from: number): Promise<string> =>
  daemon.process?.line((line) => line.includes('repaired: ') && text.test(line), from) ??
  Promise.reject(new Error('The daemon is not running.'));

interface Case {
  readonly what: string;
  readonly damage: () => void;
  readonly says: RegExp;
  /** True if traffic must also continue before the repair. */
  readonly isSeamless: boolean;
}

const cases: readonly Case[] = [
  {
    what: 'a deleted map entry',
    damage: () => {
      const map = pin('maps/lb4_frontends');
      const entries = JSON.parse(sh('bpftool', '-j', 'map', 'dump', 'pinned', map)) as { key: string[] }[];
      for (const { key } of entries) sh('bpftool', 'map', 'delete', 'pinned', map, 'key', ...key.map((byte) => String(Number(byte))));
    },
    says: /entry 10\.96\.0\.10:80\/TCP of lb4_frontends was missing/,
    isSeamless: false,
  },
  {
    what: 'a detached tc link',
    damage: () => void sh('bpftool', 'link', 'detach', 'pinned', pin(`links/tc_pod_in-${ifindex}`)),
    says: /tc_pod_in on lxc9: link was detached/,
    isSeamless: false,
  },
  {
    what: 'a detached cgroup link',
    damage: () => void sh('bpftool', 'link', 'detach', 'pinned', pin('links/sock_connect4')),
    says: /sock_connect4 on .*: link was detached/,
    isSeamless: false,
  },
  {
    what: 'a replaced program of a link',
    damage: () => {
      const object = new BpfObject(join(import.meta.dirname, '../../datapath/gen/tc_uplink.bpf.o'));
      object.load({ sizes: { lb4_frontends: 8, lb6_frontends: 8, lb4_backends: 8, lb6_backends: 8, ct4: 64, ct6: 64, lb_slots: 8 } });
      const link = openPin(pin(`links/tc_pod_in-${ifindex}`)) ?? -1;
      updateLink(link, object.programFd('tc_uplink_in'));
      closeFd(link);
      object.close();
    },
    says: /tc_pod_in on lxc9: another program was attached/,
    isSeamless: false,
  },
  {
    what: 'a removed pin of a link',
    damage: () => rmSync(pin(`links/tc_pod_in-${ifindex}`)),
    says: /tc_pod_in on lxc9: pin was missing/,
    isSeamless: true,
  },
  {
    what: 'a removed pin of a map',
    damage: () => rmSync(pin('maps/lb_services')),
    says: /map lb_services: pin was missing/,
    isSeamless: true,
  },
  {
    what: 'another map pinned under the name of a map of Sluice',
    damage: () => {
      // The pin is replaced in one step, because Sluice would repair the pin between a removal and a creation.
      const theirs = join(lab.bpffs, 'theirs');
      sh('bpftool', 'map', 'create', theirs, 'type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'theirs');
      renameSync(theirs, pin('maps/lb_drops'));
    },
    says: /map lb_drops: pin was missing/,
    isSeamless: true,
  },
  {
    what: 'a removed pin directory with all pins',
    damage: () => rmSync(pin(), { recursive: true }),
    says: /pin path .*: missing directories: links\/, clsact\/, maps\//,
    isSeamless: true,
  },
  {
    what: 'an overwritten configuration row',
    damage: () => {
      const map = pin('maps/lb_config');
      const [row] = JSON.parse(sh('bpftool', '-j', 'map', 'dump', 'pinned', map)) as { value: string[] }[];
      const zeros = (row?.value ?? []).map(() => '0');
      sh('bpftool', 'map', 'update', 'pinned', map, 'key', '0', '0', '0', '0', 'value', ...zeros);
    },
    says: /map lb_config: row was changed/,
    isSeamless: true,
  },
];

test.for(cases)('$what is repaired and logged', async ({ damage, says, isSeamless }) => {
  await serves();
  const before = {
    pins: pins(),
    from: daemon.process?.lines.length ?? 0,
    config: sh('bpftool', 'map', 'dump', 'pinned', pin('maps/lb_config')),
  };
  const link = existsSync(pin(`links/tc_pod_in-${ifindex}`)) ? linkOf(pin(`links/tc_pod_in-${ifindex}`)) : undefined;
  damage();
  if (isSeamless) await serves();
  await said(says, before.from);
  await serves();
  await daemon.settled(() => true);
  for (const until = Date.now() + 30_000; pins().join() !== before.pins.join() && Date.now() < until;) await new Promise(setImmediate);
  expect(pins()).toEqual(before.pins);
  expect(sh('bpftool', 'map', 'dump', 'pinned', pin('maps/lb_config'))).toBe(before.config);
  if (isSeamless) expect(linkOf(pin(`links/tc_pod_in-${ifindex}`))).toEqual(link);
  expect(daemon.cli('status')).toMatch(/^Repairs: +Warning +\d+ differences? repaired$/m);
});

test('a second daemon is rejected even after the pin directory was recreated', async () => {
  const second = lab.start('node', [process.execPath, 'daemon/main.ts', ...daemon.flags(false), '--socket', `${daemon.socket}2`]);
  expect(await second.ended).toBe(4);
});

test('an unmounted bpffs is reported, traffic continues, and the pins are repaired after it is mounted again', async () => {
  const from = daemon.process?.lines.length ?? 0;
  sh('umount', '-l', lab.bpffs);
  await daemon.process?.line((line) => line.includes('is not on a BPF file system'), from);
  await serves();
  expect(daemonStatus()).toMatch(/^Repairs: +Degraded/m);
  sh('mount', '-t', 'bpf', 'bpf', lab.bpffs);
  await said(/sock_connect4 .*: pin was missing/, from);
  await serves();
  for (const until = Date.now() + 30_000; !daemonStatus().includes('Warning') && Date.now() < until;) await new Promise(setImmediate);
  expect(daemonStatus()).toMatch(/^Repairs: +Warning/m);
});

/** The text of `sluice status`, which exits with 1 when something is degraded. */
function daemonStatus(): string {
  return lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
}
