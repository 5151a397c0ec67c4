// SPDX-License-Identifier: Apache-2.0
// Devices that come and go: programs by netlink event within 50 ms, off again when the device goes, nobody else touched.
// Also what the host lacks, and what uninstall leaves. Witnesses: the kernel's own list of programs, the pins, `ip`.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';

let lab: Lab;
let daemon: Daemon;

beforeEach(() => {
  lab = new Lab();
  lab.addPod(1);
  lab.addPod(9);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
});

afterEach(() => lab.close());

const links = (): string => join(lab.bpffs, 'sluice/links');
/** Programs of a device, as the kernel tells (Debian's bpftool net does not know TCX). */
const programsOf = (device: string): string[] => {
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', device)) as { ifindex: number }[];
  const ifindex = link?.ifindex ?? 0;
  const ids = inNetns(`/run/netns/${lab.netns('node')}`, () => [...tcxPrograms(ifindex, true), ...tcxPrograms(ifindex, false)]);
  return ids.map((id) => (JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(id))) as { name: string }).name);
};
async function until(is: () => boolean, what: string): Promise<number> {
  const began = performance.now();
  while (!is()) {
    if (performance.now() - began > 5000) throw new Error(`${what}: not within 5 s`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - began;
}

test('a veth gets its programs within 50 ms of appearing and loses them when it goes', async () => {
  await daemon.start({ hasSocketLb: false });
  const waits: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    lab.ip('node', 'link', 'add', `lxcnew${round}`, 'type', 'veth', 'peer', 'name', `peer${round}`);
    const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', `lxcnew${round}`)) as { ifindex: number }[];
    const pin = join(links(), `tc_pod_out-${link?.ifindex}`);
    waits.push(await until(() => existsSync(pin), pin));
    expect(programsOf(`lxcnew${round}`)).toEqual(['tc_pod_in', 'tc_pod_out']);
    expect(programsOf(`peer${round}`)).toEqual([]);
    lab.ip('node', 'link', 'delete', `lxcnew${round}`);
    await until(() => !existsSync(pin), `${pin} goes`);
  }
  // The median, since a busy machine may hold up a single wake-up.
  expect(waits.sort((a, b) => a - b)[10]).toBeLessThan(50);
});

test('renamed into and out of the prefix', async () => {
  await daemon.start({ hasSocketLb: false });
  lab.ip('node', 'link', 'add', 'vtemp', 'type', 'veth', 'peer', 'name', 'vpeer');
  lab.ip('node', 'link', 'set', 'vtemp', 'name', 'lxctemp');
  await until(() => programsOf('lxctemp').length === 2, 'programs');
  lab.ip('node', 'link', 'set', 'lxctemp', 'down');
  lab.ip('node', 'link', 'set', 'lxctemp', 'name', 'vtemp');
  await until(() => programsOf('vtemp').length === 0, 'no programs');
});

test("a pod's veth that becomes a bridge's port, and ceases to be one, keeps its programs", async () => {
  await daemon.start({ hasSocketLb: false });
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'lxc9')) as { ifindex: number }[];
  const linkId = (): number =>
    (JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', join(links(), `tc_pod_in-${link?.ifindex}`))) as { id: number }).id;
  const before = linkId();
  lab.ip('node', 'link', 'add', 'bridge0', 'type', 'bridge');
  lab.ip('node', 'link', 'set', 'lxc9', 'master', 'bridge0');
  lab.ip('node', 'link', 'set', 'lxc9', 'nomaster');
  // A device that comes later is served: the events before it have been seen.
  lab.ip('node', 'link', 'add', 'lxclast', 'type', 'veth', 'peer', 'name', 'last1');
  await until(() => programsOf('lxclast').length === 2, 'programs of the last device');
  expect(programsOf('lxc9')).toHaveLength(2);
  expect(linkId()).toBe(before);
});

test('a device of the prefix that is no veth, and an uplink that is missing, are left alone and named', async () => {
  await daemon.start({ hasSocketLb: false, extra: ['--uplinks', 'later0'] });
  lab.ip('node', 'link', 'add', 'lxcbridge', 'type', 'bridge');
  expect(daemonStatus()).toContain('uplink later0 does not exist');
  lab.ip('node', 'link', 'add', 'later0', 'type', 'veth', 'peer', 'name', 'later1');
  await until(() => programsOf('later0').length === 2, 'programs of later0');
  expect(daemonStatus()).not.toContain('later0 does not exist');
  expect(programsOf('lxcbridge')).toEqual([]);
});

/** `sluice status` exits with 1 when something is degraded; its text is what we want. */
function daemonStatus(): string {
  return lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
}

describe('what the host lacks is named with the command that mends it', () => {
  test('forwarding', async () => {
    lab.sysctl('node', 'net.ipv4.ip_forward', '0');
    await daemon.start({ hasSocketLb: false });
    expect(daemonStatus()).toContain('sysctl -w net.ipv4.ip_forward=1');
  });

  test('a route to the Services for its own processes, with tc only', async () => {
    lab.ip('node', 'route', 'delete', 'default');
    await daemon.start({ hasSocketLb: false });
    expect(daemonStatus()).toMatch(/no route to the Service address 10\.96\.0\.10/);
    await Server.start(lab, { netns: 'pod1', name: 'pod1' });
    // Pods need none.
    const pod = await Client.start(lab, 'pod9');
    expect((await pod.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 50 })).failures).toEqual({});
    // The sentence's advice works.
    const node = await Client.start(lab, 'node');
    const task = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 50 } as const;
    expect((await node.ask(task)).failures).toEqual({ ENETUNREACH: 50 });
    lab.ip('node', 'route', 'add', '10.96.0.0/16', 'via', '10.0.0.254', 'dev', 'eth0', 'src', nodeAddresses.IPv4);
    expect((await node.ask(task)).failures).toEqual({});
    expect(daemonStatus()).not.toMatch(/no route to the Service address 10/);
  });
});

/** Not a counter that moves by itself. */
const isSetting = (line: string): boolean => !/count|random|stable_secret/.test(line);

describe('uninstall', () => {
  /** Everything of ours that the kernel or the file system holds. */
  const traces = (): string[] => {
    const rows = (what: string): { name?: string; pinned?: string[] }[] =>
      JSON.parse(sh('bpftool', '-j', '-f', what, 'show')) as { name?: string; pinned?: string[] }[];
    const pinned = ['map', 'link', 'prog'].flatMap((what) =>
      rows(what)
        .filter((row) => row.pinned?.some((path) => path.startsWith(lab.bpffs)))
        .map((row) => `${what} ${row.name ?? ''}`),
    );
    return [
      ...pinned,
      ...programsOf('eth0'),
      ...programsOf('lxc1'),
      ...readdirSync(lab.bpffs).filter((name) => !name.endsWith('.debug')),
      ...(existsSync(join(lab.directory, 'run')) ? ['socket directory'] : []),
    ];
  };
  const uninstall = (...extra: string[]): string =>
    sh(process.execPath, 'daemon/cli/main.ts', '--socket', daemon.socket, 'uninstall', '--pin-path', join(lab.bpffs, 'sluice'), ...extra);

  test.for([{ signal: 'SIGKILL' }, { signal: 'SIGTERM' }] as const)(
    'after $signal: dry run lists it, the run removes it all',
    async ({ signal }) => {
      // Link-local addresses settle by themselves meanwhile.
      const rows = (what: string): string[] =>
        lab
          .ip('node', '-o', what, 'show')
          .split('\n')
          .filter((line) => !line.includes('fe80:'));
      const ids = (what: string): string[] =>
        (JSON.parse(sh('bpftool', '-j', what, 'show')) as { id: number }[]).map(({ id }) => `${what} ${id}`);
      const kernel = (): string[] => [...['prog', 'map', 'link'].flatMap(ids), ...lab.run('node', 'bpftool', 'net', 'show').split('\n')];
      const files = (): string[] => readdirSync(lab.directory, { recursive: true }).map(String).sort();
      const sysctls = (): string[] => lab.run('node', 'sh', '-c', 'grep -rs "" /proc/sys/net || true').split('\n').filter(isSetting);
      const host = (): string[] => [
        ...['link', 'address', 'route', 'rule', 'neigh'].flatMap((what) => rows(what).sort()),
        ...[...sysctls(), ...files(), lab.run('node', 'nft', 'list', 'ruleset')],
      ];
      const before = { host: host(), kernel: kernel() };
      await daemon.start({ hasSocketLb: true });
      expect(() => uninstall()).toThrow(/another sluiced holds/);
      await daemon.process?.kill(signal);
      const left = traces();
      const listed = uninstall('--dry-run').trim().split('\n');
      expect(listed.length).toBeGreaterThan(16 + 8 + 6);
      expect(traces()).toEqual(left);
      const removed = uninstall().trim().split('\n');
      expect(removed.map((line) => line.replace(/^removed /, ''))).toEqual(listed.map((line) => line.replace(/^would remove /, '')));
      expect(traces()).toEqual([]);
      expect(host()).toEqual(before.host);
      // The kernel frees programs and maps a moment after their last user has gone.
      await until(() => kernel().join() === before.kernel.join(), 'programs, maps and links as before');
      expect(uninstall()).toBe('nothing to remove\n');
    },
  );
});
