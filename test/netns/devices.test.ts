// SPDX-License-Identifier: Apache-2.0
// When a netlink event reports a new device, sluiced must attach programs to it. When a device is removed, its programs must be
// detached. Other devices must not change. Also tests the warnings about missing host settings, and that uninstall removes
// everything. The results are read from the kernel's list of programs, the pins and `ip`.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { existing, heldBy } from '../support/lab/bpf-objects.ts';

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
/** The TCX programs of a device, from the kernel, because Debian's `bpftool net` does not show TCX. */
const programsOf = (device: string): string[] => {
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', device)) as { ifindex: number }[];
  const ifindex = link?.ifindex ?? 0;
  const ids = inNetns(`/run/netns/${lab.netns('node')}`, () => [...tcxPrograms(ifindex, true), ...tcxPrograms(ifindex, false)]);
  return ids.map((id) => (JSON.parse(sh('bpftool', '-j', 'prog', 'show', 'id', String(id))) as { name: string }).name);
};
/** Waits until the condition is met, and returns the time in ms. The time limit only keeps the test from waiting forever. */
async function until(is: () => boolean, what: string): Promise<number> {
  const began = performance.now();
  while (!is()) {
    if (performance.now() - began > 30_000) throw new Error(`${what}: the condition was not met within 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return performance.now() - began;
}

/** The periodic comparison of devices does not run during a test, so every change is caused by a netlink event. */
const onlyEvents = ['--sync-period', '1h'];

test('a veth gets its programs when it appears and loses them when it is removed', async () => {
  await daemon.start({ hasSocketLb: false, extra: onlyEvents });
  const waits: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    const before = readdirSync(links()).length;
    lab.ip('node', 'link', 'add', `lxcnew${round}`, 'type', 'veth', 'peer', 'name', `peer${round}`);
    waits.push(await until(() => readdirSync(links()).length === before + 2, 'two more links'));
    const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', `lxcnew${round}`)) as { ifindex: number }[];
    const pin = join(links(), `tc_pod_out-${link?.ifindex}`);
    expect(existsSync(pin)).toBe(true);
    expect(programsOf(`lxcnew${round}`)).toEqual(['tc_pod_in', 'tc_pod_out']);
    expect(programsOf(`peer${round}`)).toEqual([]);
    lab.ip('node', 'link', 'delete', `lxcnew${round}`);
    await until(() => readdirSync(links()).length === before, `${pin} is removed`);
  }
  // The time depends on the load of the machine, so it is printed and not checked.
  console.log(`programs on a new veth after ${waits.sort((a, b) => a - b)[10]?.toFixed(1)} ms (median of ${waits.length})`);
});

test('a device that is renamed to match the prefix gets programs, and loses them when it no longer matches', async () => {
  await daemon.start({ hasSocketLb: false, extra: onlyEvents });
  lab.ip('node', 'link', 'add', 'vtemp', 'type', 'veth', 'peer', 'name', 'vpeer');
  lab.ip('node', 'link', 'set', 'vtemp', 'name', 'lxctemp');
  await until(() => programsOf('lxctemp').length === 2, 'programs');
  lab.ip('node', 'link', 'set', 'lxctemp', 'down');
  lab.ip('node', 'link', 'set', 'lxctemp', 'name', 'vtemp');
  await until(() => programsOf('vtemp').length === 0, 'no programs');
});

test('the veth of a pod keeps its programs when it joins and leaves a bridge', async () => {
  await daemon.start({ hasSocketLb: false, extra: onlyEvents });
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'lxc9')) as { ifindex: number }[];
  const linkId = (): number =>
    (JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', join(links(), `tc_pod_in-${link?.ifindex}`))) as { id: number }).id;
  const before = linkId();
  lab.ip('node', 'link', 'add', 'bridge0', 'type', 'bridge');
  lab.ip('node', 'link', 'set', 'lxc9', 'master', 'bridge0');
  lab.ip('node', 'link', 'set', 'lxc9', 'nomaster');
  // All earlier events have been handled when a later device has its programs.
  lab.ip('node', 'link', 'add', 'lxclast', 'type', 'veth', 'peer', 'name', 'last1');
  await until(() => programsOf('lxclast').length === 2, 'programs of the last device');
  expect(programsOf('lxc9')).toHaveLength(2);
  expect(linkId()).toBe(before);
});

test('a bridge that matches the prefix gets no programs, and a missing uplink is reported until it appears', async () => {
  await daemon.start({ hasSocketLb: false, extra: ['--uplinks', 'later0', ...onlyEvents] });
  lab.ip('node', 'link', 'add', 'lxcbridge', 'type', 'bridge');
  expect(daemonStatus()).toContain('uplink later0 does not exist');
  lab.ip('node', 'link', 'add', 'later0', 'type', 'veth', 'peer', 'name', 'later1');
  await until(() => programsOf('later0').length === 2, 'programs of later0');
  expect(daemonStatus()).not.toContain('later0 does not exist');
  expect(programsOf('lxcbridge')).toEqual([]);
});

/** The text of `sluice status`, which exits with 1 when something is degraded. */
function daemonStatus(): string {
  return lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status || true`, process.execPath);
}

describe('the status names a missing host setting and the command that sets it', () => {
  test('disabled IP forwarding is reported with the command that enables it', async () => {
    lab.sysctl('node', 'net.ipv4.ip_forward', '0');
    await daemon.start({ hasSocketLb: false });
    expect(daemonStatus()).toContain('sysctl -w net.ipv4.ip_forward=1');
  });

  test('without socket translation, a missing route to the Services for processes of the node is reported', async () => {
    lab.ip('node', 'route', 'delete', 'default');
    await daemon.start({ hasSocketLb: false });
    expect(daemonStatus()).toMatch(/no route to the Service address 10\.96\.0\.10/);
    await Server.start(lab, { netns: 'pod1', name: 'pod1' });
    // Pods do not need this route.
    const pod = await Client.start(lab, 'pod9');
    expect((await pod.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 50 })).failures).toEqual({});
    // The route that the message names solves the problem.
    const node = await Client.start(lab, 'node');
    const task = { protocol: 'tcp', address: vips.IPv4, port: 80, count: 50 } as const;
    expect((await node.ask(task)).failures).toEqual({ ENETUNREACH: 50 });
    lab.ip('node', 'route', 'add', '10.96.0.0/16', 'via', '10.0.0.254', 'dev', 'eth0', 'src', nodeAddresses.IPv4);
    expect((await node.ask(task)).failures).toEqual({});
    expect(daemonStatus()).not.toMatch(/no route to the Service address 10/);
  });
});

/** Excludes counters and random values, which change by themselves. */
const isSetting = (line: string): boolean => !/count|random|stable_secret/.test(line);

describe('uninstall', () => {
  /**
   * Everything of the daemon that other processes can see: pins, programs of devices and of the cgroup, the socket's directory.
   */
  const traces = (): string[] => [
    ...readdirSync(lab.bpffs, { recursive: true })
      .map(String)
      .filter((name) => !name.endsWith('.debug')),
    ...programsOf('eth0'),
    ...programsOf('lxc1'),
    ...sh('bpftool', 'cgroup', 'show', lab.cgroup)
      .split('\n')
      .filter((line) => line.includes('sock_')),
    ...(existsSync(join(lab.directory, 'run')) ? ['socket directory'] : []),
  ];
  const uninstall = (...extra: string[]): string =>
    sh(process.execPath, 'daemon/cli/main.ts', '--socket', daemon.socket, 'uninstall', '--pin-path', join(lab.bpffs, 'sluice'), ...extra);

  test.for([{ signal: 'SIGKILL' }, { signal: 'SIGTERM' }] as const)(
    'after $signal, --dry-run lists everything and removes nothing, and the real uninstall removes everything',
    async ({ signal }) => {
      // Link-local addresses are left out, because duplicate address detection changes their state.
      const rows = (what: string): string[] =>
        lab
          .ip('node', '-o', what, 'show')
          .split('\n')
          .filter((line) => !line.includes('fe80:'));
      const files = (): string[] => readdirSync(lab.directory, { recursive: true }).map(String).sort();
      const sysctls = (): string[] => lab.run('node', 'sh', '-c', 'grep -rs "" /proc/sys/net || true').split('\n').filter(isSetting);
      const host = (): string[] => [
        ...['link', 'address', 'route', 'rule', 'neigh'].flatMap((what) => rows(what).sort()),
        ...[...sysctls(), ...files(), lab.run('node', 'nft', 'list', 'ruleset'), lab.run('node', 'bpftool', 'net', 'show')],
      ];
      const before = host();
      await daemon.start({ hasSocketLb: true });
      const held = heldBy(daemon.process?.pid ?? 0);
      expect(existing(held)).toEqual(held);
      for (const kind of ['prog', 'map', 'link']) expect(held.filter((name) => name.startsWith(kind)).length, kind).toBeGreaterThan(5);
      expect(() => uninstall()).toThrow(/another sluiced holds/);
      await daemon.process?.kill(signal);
      const left = traces();
      const listed = uninstall('--dry-run').trim().split('\n');
      expect(listed.length).toBeGreaterThan(16 + 8 + 6);
      expect(traces()).toEqual(left);
      const removed = uninstall().trim().split('\n');
      expect(removed.map((line) => line.replace(/^removed /, ''))).toEqual(listed.map((line) => line.replace(/^would remove /, '')));
      // The kernel frees a link a moment after its pin is gone.
      await until(() => traces().length === 0, 'every program is detached');
      expect(host()).toEqual(before);
      // The kernel frees programs and maps a moment after the last reference to them is gone.
      await until(() => existing(held).length === 0, 'the kernel frees every program, map and link of the daemon');
      expect(uninstall()).toBe('nothing to remove\n');
    },
  );
});
