// SPDX-License-Identifier: Apache-2.0
// `sluice uninstall` must remove only what belongs to Sluice. If a name or path of Sluice belongs to something else, uninstall leaves it
// in place, reports it with the reason, and exits with 1. `--dry-run` works while the daemon runs. devices.test.ts tests that nothing of
// Sluice remains.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server as SocketServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { attachTcx, tcxPrograms } from '../../daemon/kernel/link.ts';
import { closeFd, pin } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { sh } from '../support/lab/shell.ts';

let lab: Lab;
let daemon: Daemon;

beforeEach(() => {
  lab = new Lab();
  lab.addPod(1);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
});

afterEach(() => lab.close());

const pinPath = (): string => join(lab.bpffs, 'sluice');

interface Run {
  readonly code: number;
  readonly lines: readonly string[];
}

/** Runs uninstall in the namespace of the node. */
function uninstall(...flags: string[]): Run {
  const command = [process.execPath, 'daemon/cli/main.ts', '--socket', daemon.socket, 'uninstall', '--pin-path', pinPath(), ...flags];
  const netns = `--net=/run/netns/${lab.netns('node')}`;
  try {
    const text = execFileSync('nsenter', [netns, ...command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    return { code: 0, lines: text.trim().split('\n') };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { code: status, lines: `${stdout}${stderr}`.trim().split('\n') };
  }
}

/** The lines that report what uninstall left in place, with paths relative to the directory of the lab. */
const leftOf = ({ lines }: Run): string[] =>
  lines
    .filter((line) => line.startsWith('left '))
    .map((line) => line.replaceAll(`${lab.directory}/`, ''))
    .sort();

/** A program for tc, named "theirs". */
function foreignObject(): BpfObject {
  const source = join(lab.directory, 'theirs.bpf.c');
  const text = '#include <linux/bpf.h>\n#define SEC(n) __attribute__((section(n), used))\n';
  writeFileSync(source, `${text}SEC("tc") int theirs(struct __sk_buff *skb) { return -1; }\nchar _license[] SEC("license") = "GPL";\n`);
  const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  const output = source.replace(/c$/, 'o');
  sh('clang-19', '-O2', '-g', '-target', 'bpf', `-I/usr/include/${multiarch}`, '-c', source, '-o', output);
  const object = new BpfObject(output);
  object.load();
  return object;
}

const uplink = (): number => (JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'eth0')) as { ifindex: number }[])[0]?.ifindex ?? 0;

describe('files that are not from Sluice', () => {
  test('files in the pin path that are not from Sluice are left and named, whatever their names; the rest is removed', async () => {
    await daemon.start({ hasSocketLb: true });
    await daemon.process?.kill();
    const at = (...names: string[]): string => join(pinPath(), ...names);
    const createMap = (pinName: string, name: string, type = 'array'): void => {
      rmSync(at('maps', pinName), { force: true });
      sh('bpftool', 'map', 'create', at('maps', pinName), 'type', type, 'key', '4', 'value', '4', 'entries', '1', 'name', name);
    };
    createMap('ct4', 'ct4', 'hash');
    createMap('lb_slots', 'theirs');
    createMap('other', 'other');
    const object = foreignObject();
    const ifindex = uplink();
    const link = inNetns(`/run/netns/${lab.netns('node')}`, () => attachTcx(object.programFd('theirs'), ifindex, true));
    for (const name of [`tc_uplink_in-${ifindex}`, 'sock_sendmsg4', 'sock_connect6']) rmSync(at('links', name));
    pin(link, at('links', `tc_uplink_in-${ifindex}`));
    pin(link, at('links', 'sock_connect6'));
    pin(object.programFd('theirs'), at('links', 'sock_sendmsg4'));
    pin(object.programFd('theirs'), at('clsact', `tc_pod_in-${ifindex}`));
    closeFd(link);
    object.close();
    mkdirSync(at('links', 'nested'));
    mkdirSync(at('more'));
    const planned = uninstall('--dry-run');
    expect(planned.code).toBe(1);
    const run = uninstall();
    expect(run.code).toBe(1);
    const theirs = 'it runs the program theirs, which is not from Sluice';
    expect(leftOf(run)).toEqual(
      [
        'left map bpf/sluice/maps/ct4: it has another layout than the map of this name (key 4, value 4 bytes)',
        'left map bpf/sluice/maps/lb_slots: it is the map theirs of another program',
        'left map bpf/sluice/maps/other: Sluice does not use this name',
        `left link bpf/sluice/links/tc_uplink_in-${ifindex}: ${theirs}`,
        `left link bpf/sluice/links/sock_connect6: ${theirs}`,
        'left link bpf/sluice/links/sock_sendmsg4: it is a pinned program and not a link',
        `left filter bpf/sluice/clsact/tc_pod_in-${ifindex}: ${theirs}`,
        'left link bpf/sluice/links/nested: it is a directory, which Sluice does not create',
        'left file bpf/sluice/more: Sluice does not use this name',
      ].sort(),
    );
    const undone = (line: string): string => line.replace(/^would (remove|leave) /, '$1 ');
    const done = (line: string): string => line.replace(/^removed /, 'remove ').replace(/^left /, 'leave ');
    expect(run.lines.map(done)).toEqual(planned.lines.map(undone));
    const remaining = readdirSync(pinPath(), { recursive: true }).map(String).sort();
    expect(remaining).toEqual(
      [
        ...['clsact', `clsact/tc_pod_in-${ifindex}`, 'links', 'links/nested', 'links/sock_connect6', 'links/sock_sendmsg4'],
        ...[`links/tc_uplink_in-${ifindex}`, 'maps', 'maps/ct4', 'maps/lb_slots', 'maps/other', 'more'],
      ].sort(),
    );
    expect(inNetns(`/run/netns/${lab.netns('node')}`, () => tcxPrograms(ifindex, true))).toHaveLength(1);
    expect(uninstall().code).toBe(1);
  });

  test('a directory that is not on a bpffs is not accepted as a pin path', () => {
    const plain = join(lab.directory, 'plain');
    mkdirSync(join(plain, 'maps'), { recursive: true });
    writeFileSync(join(plain, 'maps/ct4'), 'mine');
    const run = uninstall('--pin-path', plain);
    expect(run.code).toBe(1);
    expect(leftOf(run)).toEqual(['left directory plain: it is not on a BPF file system, so it is not the pin path of a daemon']);
    expect(readFileSync(join(plain, 'maps/ct4'), 'utf8')).toBe('mine');
  });
});

describe('the socket', () => {
  const directory = (): string => join(lab.directory, 'run');
  const listen = (path: string): Promise<SocketServer> =>
    new Promise((resolve) => {
      const server = createServer().listen(path, () => resolve(server));
    });

  test('a file, a directory or a symbolic link at the path of the socket is left by the uninstall and by the start of the daemon', async () => {
    const makers: readonly (() => void)[] = [
      () => writeFileSync(daemon.socket, 'mine'),
      () => mkdirSync(daemon.socket),
      () => symlinkSync('/etc/hostname', daemon.socket),
      () => symlinkSync('/nowhere', daemon.socket),
    ];
    for (const make of makers) {
      mkdirSync(directory(), { mode: 0o750 });
      make();
      const run = uninstall();
      expect(run).toMatchObject({ code: 1 });
      expect(leftOf(run)).toEqual(['left file run/sluice.sock: it is not a socket']);
      expect(readdirSync(directory())).toEqual(['sluice.sock']);
      const started = lab.start('node', [process.execPath, 'daemon/main.ts', ...daemon.flags(false)]);
      expect(await started.ended).toBe(3);
      expect(started.lines.join('\n')).toContain('exists and is not a socket');
      expect(readdirSync(directory())).toEqual(['sluice.sock']);
      rmSync(directory(), { recursive: true });
      uninstall();
    }
  });

  test('the socket of a daemon with another pin path is left, and that daemon continues', async () => {
    await daemon.start({ hasSocketLb: false, extra: ['--pin-path', join(lab.bpffs, 'elsewhere')] });
    const pid = daemon.process?.pid ?? 0;
    const run = uninstall();
    expect(run.code).toBe(1);
    expect(run.lines.map((line) => line.replaceAll(`${lab.directory}/`, ''))).toEqual([
      `left socket run/sluice.sock: a process (${pid}) listens on it: stop it, or give its socket another path`,
    ]);
    expect(uninstall('--dry-run').lines.join()).toContain('would leave socket');
    expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  });

  test('the socket of another program is left, even if that program accepts no connection', async () => {
    mkdirSync(directory(), { mode: 0o750 });
    const datagram =
      'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die; $| = 1; print "up\\n"; sleep 600';
    const other = lab.start('node', ['perl', '-e', datagram, daemon.socket]);
    await other.line((line) => line === 'up');
    expect(leftOf(uninstall())).toEqual([expect.stringMatching(/^left socket run\/sluice\.sock: a process listens on it/)]);
    await other.kill();
    const full =
      'use IO::Socket::UNIX; use Socket; my $p = $ARGV[0]; unlink $p; my $s = IO::Socket::UNIX->new(Type => SOCK_STREAM, Listen => 0, Local => $p) or die; my @c; for (1..3) { my $c = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $p, Blocking => 0); push @c, $c } $| = 1; print "up\\n"; sleep 600';
    const busy = lab.start('node', ['perl', '-e', full, daemon.socket]);
    await busy.line((line) => line === 'up');
    expect(leftOf(uninstall())).toEqual([expect.stringMatching(/^left socket run\/sluice\.sock: a process (\(\d+\) )?listens on it/)]);
    await busy.kill();
    expect(uninstall()).toMatchObject({ code: 0 });
    expect(existsSync(directory())).toBe(false);
  });

  test('a socket on which the process of the test listens is left, while the pins of a dead daemon are removed', async () => {
    await daemon.start({ hasSocketLb: false });
    await daemon.process?.kill('SIGKILL');
    rmSync(daemon.socket);
    const server = await listen(daemon.socket);
    const run = uninstall();
    server.close();
    expect(run.code).toBe(1);
    expect(leftOf(run)).toHaveLength(1);
    expect(existsSync(pinPath())).toBe(false);
  });
});

test('while the daemon runs, --dry-run shows what a later uninstall would remove, and uninstall itself is refused', async () => {
  await daemon.start({ hasSocketLb: true });
  const listed = (): string[] => readdirSync(lab.bpffs, { recursive: true }).map(String).sort();
  const before = listed();
  const beside = uninstall('--dry-run');
  expect(beside.code).toBe(0);
  expect(beside.lines.at(-1)).toBe(`sluiced (pid ${daemon.process?.pid}) is running with this pin path: stop it before the uninstall`);
  expect(listed()).toEqual(before);
  expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  const refused = uninstall();
  expect(refused).toMatchObject({ code: 4, lines: [expect.stringContaining('another sluiced holds')] });
  expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
  await daemon.process?.kill('SIGKILL');
  const run = uninstall();
  expect(run.code).toBe(0);
  expect(run.lines.map((line) => line.replace(/^removed/, 'would remove'))).toEqual(beside.lines.slice(0, -1));
  expect(uninstall()).toEqual({ code: 0, lines: ['nothing to remove'] });
});
