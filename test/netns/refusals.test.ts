// SPDX-License-Identifier: Apache-2.0
// On a host on which sluiced cannot run, it must end with one error message and a specific exit code, and leave nothing behind.
// `sluice preflight` must report the same error beforehand and change nothing. Also tests unusual hosts on which sluiced can run.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Foreign } from '../support/lab/foreign.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';
import { pinnedLinks } from '../support/lab/bpf-objects.ts';

const root = join(import.meta.dirname, '../..');

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

/** Compiles a program for connect4 that does nothing and does not belong to Sluice. Returns the path of the object file. */
function foreignProgram(): string {
  const source = join(lab.directory, 'foreign.bpf.c');
  const object = source.replace(/c$/, 'o');
  writeFileSync(
    source,
    `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("cgroup/connect4") int foreign(struct bpf_sock_addr *ctx) { return 1; }
char _license[] SEC("license") = "GPL";
`,
  );
  const multiarch = process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu';
  sh('clang-19', '-O2', '-g', '-target', 'bpf', `-I/usr/include/${multiarch}`, '-c', source, '-o', object);
  return object;
}

interface Run {
  readonly code: number;
  readonly text: string;
}

/** Runs a command in its own mount namespace, after the shell command `before`. */
async function command(before: string, ...args: readonly string[]): Promise<Run> {
  const run = lab.start('node', ['unshare', '-m', 'sh', '-c', `${before === '' ? '' : `${before} && `}exec "$@"`, 'sh', ...args]);
  const code = await run.ended;
  return { code, text: run.lines.join('\n') };
}

interface Preflight {
  readonly ok: boolean;
  readonly exitCode: number;
  readonly checks: readonly { readonly name: string; readonly state: string; readonly message: string; readonly exitCode: number }[];
}

const preflight = async (before: string, wrap: readonly string[], flags: readonly string[]): Promise<Run & { report: Preflight }> => {
  const cli = [process.execPath, join(root, 'daemon/cli/main.ts'), 'preflight', ...flags, '-o', 'json'];
  const run = await command(before, ...wrap, ...cli);
  return { ...run, report: JSON.parse(run.text) as Preflight };
};

/** Everything that Sluice could leave behind: pins, links, hooks, the directory of the socket. */
const traces = (): string[] => [
  ...readdirSync(lab.bpffs).filter((name) => !name.endsWith('.debug')),
  ...sh('bpftool', 'cgroup', 'show', lab.cgroup)
    .split('\n')
    .filter((line) => line.includes('sock_')),
  ...readdirSync(lab.directory).filter((name) => name === 'run'),
];

interface Case {
  readonly what: string;
  readonly code: number;
  readonly says: RegExp;
  /** Shell command that runs first, in the same mount namespace. */
  readonly before?: () => string;
  /** Command that starts the tested command, such as setpriv. */
  readonly wrap?: readonly string[];
  readonly flags?: () => readonly string[];
}

const without = (...capabilities: string[]): string[] => {
  const list = capabilities.map((name) => `-${name}`).join(',');
  return ['setpriv', '--bounding-set', list, '--inh-caps', list];
};

const cases: readonly Case[] = [
  {
    what: 'capabilities that lack CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN',
    code: 7,
    says: /lacks CAP_BPF, CAP_PERFMON: run it as root/,
    wrap: without('bpf', 'perfmon', 'sys_admin'),
  },
  { what: 'capabilities that lack CAP_NET_ADMIN', code: 7, says: /lacks CAP_NET_ADMIN: run it as root/, wrap: without('net_admin') },
  {
    what: 'a kernel without BTF',
    code: 5,
    says: /has no BTF/,
    before: () => 'mount -t tmpfs none /sys/kernel/btf',
  },
  {
    what: 'a pin path that is not on a bpffs',
    code: 8,
    says: /is not on a BPF file system: mount -t bpf/,
    flags: () => ['--pin-path', join(lab.directory, 'plain')],
  },
  {
    what: 'a bpffs that is mounted read-only',
    code: 8,
    says: /cannot be written, because its bpffs is mounted read-only: run mount -o remount,rw/,
    before: () => `mount -o remount,ro,bind ${lab.bpffs}`,
  },
  {
    what: 'a pin path with pins of another program',
    code: 8,
    says: /holds pins of another program \(theirs\): name another --pin-path/,
    flags: () => {
      const maps = join(lab.bpffs, 'other/maps');
      mkdirSync(maps, { recursive: true });
      sh('bpftool', 'map', 'create', join(maps, 'theirs'), 'type', 'array', 'key', '4', 'value', '4', 'entries', '1', 'name', 'theirs');
      return ['--pin-path', join(lab.bpffs, 'other')];
    },
  },
  {
    what: 'a directory in the place of a pinned map',
    code: 8,
    says: /\/third\/maps\/lb_config is a directory, and not a pinned map: remove it, or name another --pin-path$/,
    flags: () => {
      mkdirSync(join(lab.bpffs, 'third/maps/lb_config'), { recursive: true });
      return ['--pin-path', join(lab.bpffs, 'third')];
    },
  },
  {
    what: 'a pinned program in the place of a pinned map',
    code: 8,
    says: /\/fourth\/maps\/lb_config is a pinned program, and not a pinned map: remove it, or name another --pin-path$/,
    flags: () => {
      mkdirSync(join(lab.bpffs, 'fourth/maps'), { recursive: true });
      sh('bpftool', 'prog', 'load', foreignProgram(), join(lab.bpffs, 'fourth/maps/lb_config'));
      return ['--pin-path', join(lab.bpffs, 'fourth')];
    },
  },
  { what: 'a cgroup path that is not a cgroup', code: 9, says: /is not cgroup v2/, flags: () => ['--cgroup', lab.directory] },
  { what: 'a cgroup that does not exist', code: 9, says: /cannot be opened/, flags: () => ['--cgroup', '/nowhere'] },
  {
    what: 'a cgroup hook that another program uses exclusively',
    code: 10,
    says: /holds the connect4 hook of cgroup .* exclusively: detach it .*--socket-lb off/,
    flags: () => {
      sh('bpftool', 'prog', 'loadall', foreignProgram(), join(lab.bpffs, 'foreign'));
      sh('bpftool', 'cgroup', 'attach', lab.cgroup, 'connect4', 'pinned', join(lab.bpffs, 'foreign/foreign'));
      return [];
    },
  },
];

test.for(cases)(
  'with $what, sluiced exits with code $code and one error message, leaves nothing behind, and preflight gives the same error',
  async (each) => {
    const flags = [...daemon.flags(true), ...(each.flags?.() ?? [])];
    const before = traces();
    const asked = await preflight(each.before?.() ?? '', each.wrap ?? [], flags);
    expect(asked.code).toBe(each.code);
    expect(asked.report).toMatchObject({ ok: false, exitCode: each.code });
    const failed = asked.report.checks.find(({ state }) => state === 'failed');
    expect(failed?.message).toMatch(each.says);
    expect(traces()).toEqual(before);

    const started = await command(each.before?.() ?? '', ...(each.wrap ?? []), process.execPath, join(root, 'daemon/main.ts'), ...flags);
    expect(started.code).toBe(each.code);
    expect(started.text.split('\n').filter((line) => line.startsWith('sluiced:'))).toEqual([`sluiced: ${failed?.message}`]);
    expect(started.text).not.toMatch(/\n\s+at /);
    expect(traces()).toEqual(before);
  },
);

const dataMaps = ['lb_config', 'lb4_frontends', 'lb6_frontends', 'lb_services', 'lb_slots', 'lb4_backends', 'lb6_backends'];

test('pinned state of another version is rejected, and the pinned programs continue to serve', async () => {
  await daemon.start({ hasSocketLb: false });
  await daemon.process?.kill();
  const config = join(lab.bpffs, 'sluice/maps/lb_config');
  const [row] = JSON.parse(sh('bpftool', '-j', 'map', 'dump', 'pinned', config)) as { value: string[] }[];
  const bytes = [...(row?.value ?? [])].map((byte) => Number(byte));
  sh('bpftool', 'map', 'update', 'pinned', config, 'key', '0', '0', '0', '0', 'value', '99', ...bytes.slice(1).map(String));
  const held = (): string[] => [
    ...readdirSync(join(lab.bpffs, 'sluice'), { recursive: true }).map(String).sort(),
    ...pinnedLinks(join(lab.bpffs, 'sluice/links')).map((link) => JSON.stringify(link)),
    ...readdirSync(join(lab.bpffs, 'sluice/maps')).map((name) => {
      const shown = sh('bpftool', '-j', 'map', 'show', 'pinned', join(lab.bpffs, 'sluice/maps', name));
      return `${name} ${(JSON.parse(shown) as { id: number }).id}`;
    }),
    ...dataMaps.map((name) => sh('bpftool', 'map', 'dump', 'pinned', join(lab.bpffs, 'sluice/maps', name))),
  ];
  const before = held();
  const asked = await preflight('', [], daemon.flags(false));
  expect(asked.code).toBe(11);
  expect(asked.report.checks.find(({ state }) => state === 'failed')).toMatchObject({ name: 'pinned state', exitCode: 11 });
  const started = await command('', process.execPath, join(root, 'daemon/main.ts'), ...daemon.flags(false));
  expect(started.code).toBe(11);
  expect(started.text).toMatch(/have layout 99, and this version has \d+: run the version that created them, or `sluice uninstall` first/);
  expect(held()).toEqual(before);
  await Server.start(lab, { netns: 'pod1', name: 'pod1' });
  const client = await Client.start(lab, 'pod9');
  expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 20 })).failures).toEqual({});
});

describe('a host on which sluiced runs', () => {
  const serves = async (before: string, wrap: readonly string[]): Promise<void> => {
    const asked = await preflight(before, wrap, daemon.flags(true));
    expect(asked.report).toMatchObject({ ok: true, exitCode: 0 });
    expect(asked.report.checks.map(({ name, state }) => `${name} ${state}`)).toEqual([
      ...['descriptors ok', 'capabilities ok', 'kernel ok', 'source ports ok', 'bpffs ok', 'pinned state ok', 'programs ok', 'cgroup ok'],
      ...[
        'uplink eth0 ok',
        'pod interfaces lxc* ok',
        'devices ok',
        'order on eth0 ok',
        'firewall ok',
        'port 10256 ok',
        'source ok',
        'API server skipped',
      ],
    ]);
    expect(traces()).toEqual([]);
    const shell = ['unshare', '-m', 'sh', '-c', `${before === '' ? '' : `${before} && `}exec "$@"`, 'sh'];
    const flags = daemon.flags(true);
    const running = lab.start('node', [...shell, ...wrap, process.execPath, join(root, 'daemon/main.ts'), ...flags]);
    await running.line((line) => line.includes('"msg":"ready"'));
    await Server.start(lab, { netns: 'pod1', name: 'pod1' });
    const client = await Client.start(lab, 'pod9');
    expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 20 })).failures).toEqual({});
  };

  test('sluiced runs with a read-only cgroup mount, because attaching does not write to it', async () => {
    await serves(`mount --bind ${lab.cgroup} ${lab.cgroup} && mount -o remount,ro,bind ${lab.cgroup}`, []);
  });

  test('sluiced runs with only CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN', async () => {
    const drop = ['--bounding-set', '-all,+bpf,+perfmon,+net_admin', '--inh-caps', '-all'];
    await serves('', ['setpriv', ...drop]);
  });
});

test('preflight warns about a Service CIDR that contains an address of the node', async () => {
  const { code, report } = await preflight('', [], [...daemon.flags(true), '--service-cidr', '0.0.0.0/0,198.51.100.0/24']);
  expect(code).toBe(0);
  const checks = report.checks.filter(({ name }) => name.startsWith('Service CIDR'));
  expect(checks.map(({ name, state }) => `${name} ${state}`)).toEqual([
    'Service CIDR 0.0.0.0/0 warning',
    'Service CIDR 198.51.100.0/24 ok',
  ]);
  expect(checks[0]?.message).toMatch(/^the Service CIDR 0\.0\.0\.0\/0 contains [\d.]+, an address of this node, and packets of pods/);
});

test('preflight warns about programs that run before ours at egress of the uplink, and about disabled IP forwarding', async () => {
  const foreign = new Foreign();
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'eth0')) as { ifindex: number }[];
  inNetns(`/run/netns/${lab.netns('node')}`, () => {
    for (const isIngress of [true, false]) foreign.attach('foreign_count', { ifindex: link?.ifindex ?? 0, isIngress, place: 'first' });
    for (const direction of ['ingress', 'egress'] as const) foreign.filter('foreign_note', { dev: 'eth0', direction, bpffs: lab.bpffs });
  });
  lab.sysctl('node', 'net.ipv4.ip_forward', '0');
  const { code, report } = await preflight('', [], daemon.flags(true));
  foreign.close();
  expect(code).toBe(0);
  const warnings = report.checks.filter(({ state }) => state === 'warning').map(({ message }) => message);
  expect(warnings).toEqual([
    expect.stringMatching(
      /^at egress of eth0: the TCX program foreign_count, the filter foreign_note_eth0_egress: our program runs after them/,
    ),
    expect.stringContaining('sysctl -w net.ipv4.ip_forward=1'),
  ]);
});

test('preflight asks the API server, and exits with 1 if sluiced would start but not become ready', async () => {
  const kubeconfig = join(lab.directory, 'kubeconfig');
  const cluster = { server: 'https://127.0.0.1:1' };
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'c', clusters: [{ name: 'c', cluster }] },
    ...{ users: [{ name: 'u', user: { token: 'secret' } }], contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }] },
  };
  writeFileSync(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  const flags = daemon.flags(true).filter((flag) => flag !== '--source' && flag !== daemon.source);
  const { code, text, report } = await preflight('', [], [...flags, '--kubeconfig', kubeconfig]);
  expect(code).toBe(1);
  const results = report.checks.slice(report.checks.findIndex(({ name }) => name === 'source'));
  expect(results.map(({ name, state }) => `${name} ${state}`)).toEqual([
    ...['source ok', 'API server https://127.0.0.1:1 failed'],
    ...['services', 'endpointslices.discovery.k8s.io', 'nodes', 'servicecidrs.networking.k8s.io', 'networkpolicies.networking.k8s.io'].map(
      (name) => `right ${name} skipped`,
    ),
  ]);
  expect(results[1]?.message).toMatch(/ECONNREFUSED/);
  expect(text).not.toContain('secret');
});

test('preflight warns of devices that do not exist, and skips checks that have nothing to check', async () => {
  const flags = [...daemon.flags(false), '--uplinks', 'later0', '--pod-interfaces', 'cali'];
  const { code, report } = await preflight('', [], flags);
  expect(code).toBe(0);
  expect(report.checks.filter(({ state }) => state !== 'ok').map(({ name, state, message }) => `${name} ${state}: ${message}`)).toEqual([
    'cgroup skipped: --socket-lb is off, so nothing is attached to a cgroup',
    expect.stringMatching(/^uplink later0 warning: uplink later0 does not exist: correct --uplinks/),
    expect.stringMatching(
      /^pod interfaces cali\* warning: no veth or netkit device of this node has the prefix cali: .* correct --pod-interfaces/,
    ),
    'order on later0 skipped: later0 does not exist',
    expect.stringMatching(/^API server skipped: the source is the directory/),
    // Without socket programs the node's own processes need a route to the Services.
    ...report.checks.filter(({ name, state }) => name === 'host' && state === 'warning').map(({ message }) => `host warning: ${message}`),
  ]);
});

test('preflight prints its results as text', async () => {
  const plain = join(lab.directory, 'plain');
  const refused = await command(
    '',
    process.execPath,
    join(root, 'daemon/cli/main.ts'),
    'preflight',
    ...daemon.flags(true),
    '--pin-path',
    plain,
  );
  expect(refused.code).toBe(8);
  expect(refused.text).toMatch(/^bpffs: +Failed +.*is not on a BPF file system: mount -t bpf/m);
  const run = await command('', process.execPath, join(root, 'daemon/cli/main.ts'), 'preflight', ...daemon.flags(true));
  expect(run.code).toBe(0);
  expect(run.text).toMatch(/^programs: +Ok +the verifier accepts all \d+ programs$/m);
});
