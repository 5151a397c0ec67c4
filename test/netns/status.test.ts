// SPDX-License-Identifier: Apache-2.0
// Tests that the daemon reports its real state. For each condition that it reports, the daemon runs once while the condition holds, and
// once while it does not. The tests read the reports from `sluice status`, its exit code and the log.
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Daemon, nodes, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import type { LabProcess } from '../support/lab/process.ts';
import { sh } from '../support/lab/shell.ts';

const root = join(import.meta.dirname, '../..');

let lab: Lab;
let daemon: Daemon;

beforeEach(() => {
  lab = new Lab();
  lab.addPod(1);
  lab.addPod(9);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
  daemon.write('nodes.yaml', ...nodes());
});

afterEach(() => lab.close());

interface Line {
  readonly subject: string;
  readonly severity: string;
  readonly summary: string;
  readonly details?: readonly string[];
}

interface Answer {
  readonly exitCode: number;
  readonly severity: string;
  readonly ready: boolean;
  readonly socketLb: boolean;
  readonly lines: ReadonlyMap<string, Line>;
}

/** `sluice status -o json` with its exit code. */
function ask(of = daemon): Answer {
  let [text, exitCode] = ['', 0];
  const [program = '', ...args] = of.command('status', '-o', 'json');
  try {
    text = execFileSync(program, args, { encoding: 'utf8' });
  } catch (error) {
    ({ stdout: text, status: exitCode } = error as { stdout: string; status: number });
  }
  const { lines, ...status } = JSON.parse(text) as Omit<Answer, 'lines' | 'exitCode'> & { readonly lines: readonly Line[] };
  return { ...status, exitCode, lines: new Map(lines.map((line) => [line.subject, line])) };
}

const warningOf = (subject: string): string[] => {
  const line = ask().lines.get(subject);
  expect(line?.severity).toBe('SEVERITY_WARNING');
  return [...(line?.details ?? [])];
};

/** Asks for the status until the condition is met. */
async function until(isMet: (answer: Answer) => boolean): Promise<Answer> {
  for (const end = Date.now() + 30_000; ;) {
    const answer = ask();
    if (isMet(answer)) return answer;
    if (Date.now() > end) throw new Error(`the status did not become as expected: ${JSON.stringify([...answer.lines.values()])}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const logged = (text: string): string[] => (daemon.process?.lines ?? []).filter((line) => line.includes(text));

/** Time in which the log of problems would repeat a line, if it repeated lines. */
const twoLogPeriods = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 11_000));

test('a healthy daemon reports Ok in every line', async () => {
  await daemon.start({ hasSocketLb: true });
  const { exitCode, severity, ready, socketLb, lines } = ask();
  expect({ exitCode, severity, ready, socketLb }).toEqual({ exitCode: 0, severity: 'SEVERITY_OK', ready: true, socketLb: true });
  expect(lines.get('Node')?.summary).toBe('node-a');
  expect(lines.get('Devices')?.summary).toBe('1 uplink, 2 pod interfaces');
  expect(lines.get('Programs')?.summary).toBe('14 attached (6 tcx, 8 cgroup)');
});

describe('the settings', () => {
  test('a node name, an uplink and a prefix that match nothing are warnings that name the flag, logged once, until they match', async () => {
    await daemon.start({ hasSocketLb: true, extra: ['--node', 'node-z', '--uplinks', 'later0', '--pod-interfaces', 'cali'] });
    expect(warningOf('Node')).toEqual([expect.stringMatching(/^there is no Node named node-z, .*: set --node to the name/)]);
    expect(warningOf('Devices')).toEqual([
      expect.stringMatching(/^uplink later0 does not exist: correct --uplinks/),
      expect.stringMatching(/^no veth or netkit device of this node has the prefix cali: .* correct --pod-interfaces/),
    ]);
    expect(ask()).toMatchObject({ exitCode: 0, ready: true, severity: 'SEVERITY_WARNING' });
    await twoLogPeriods();
    const texts = ['there is no Node named node-z', 'uplink later0 does not exist', 'has the prefix cali'];
    expect(texts.map((text) => logged(text).length)).toEqual([1, 1, 1]);

    lab.ip('node', 'link', 'add', 'later0', 'type', 'veth', 'peer', 'name', 'peer0');
    lab.ip('node', 'link', 'add', 'cali1', 'type', 'veth', 'peer', 'name', 'peer1');
    const [first] = nodes() as [{ metadata: object }];
    daemon.write('nodes.yaml', { ...first, metadata: { name: 'node-z' } });
    const { lines } = await until(({ severity }) => severity === 'SEVERITY_OK');
    expect(lines.get('Devices')?.summary).toBe('2 uplinks, 3 pod interfaces');
    await daemon.process?.line((line) => line.includes('resolved: uplink later0 does not exist'));
  });

  test('the daemon serves with the size of the pinned maps, and reports the flag and both sizes if the flag differs', async () => {
    await daemon.start({ hasSocketLb: true });
    await daemon.process?.kill();
    const extra = ['--max-flows', '131072', '--max-frontends', '2048', '--max-slots', '131072'];
    await daemon.start({ hasSocketLb: true, extra });
    const path = join(lab.bpffs, 'sluice');
    const remedy = `or stop sluiced, run \`sluice uninstall --pin-path ${path}\``;
    const details = warningOf('Maps');
    expect(details.toSorted()).toEqual([
      expect.stringContaining('--max-flows is 131072, but the pinned maps ct4, ct6 were created for 65536'),
      expect.stringContaining(
        '--max-frontends is 2048, but the pinned maps lb4_frontends, lb4_ranges, lb6_frontends, lb6_ranges were created for 1024',
      ),
      expect.stringContaining('--max-slots is 131072, but the pinned map lb_slots was created for 65536'),
    ]);
    for (const detail of details) expect(detail).toContain(remedy);
    await Server.start(lab, { netns: 'pod1', name: 'pod1' });
    const client = await Client.start(lab, 'pod9');
    expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 20 })).failures).toEqual({});

    // The next step that the message names solves the problem.
    await daemon.process?.kill();
    daemon.cli('uninstall', '--pin-path', path);
    await daemon.start({ hasSocketLb: true, extra });
    expect(ask().lines.get('Maps')?.severity).toBe('SEVERITY_OK');
  });
});

describe('NetworkPolicies of the cluster', () => {
  const policy = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'deny', namespace: 'default' } };

  /** Serves the API server double in the namespace of the node, and returns a daemon that uses it. */
  async function withApiServer(objects: readonly object[], forbidden: readonly string[] = []): Promise<Daemon> {
    const kubeconfig = join(lab.directory, 'kubeconfig');
    const code = `
      const { serveDouble } = await import(process.argv[1]);
      const { api } = await serveDouble(process.argv[2]);
      api.put(...JSON.parse(process.argv[3]));
      for (const right of JSON.parse(process.argv[4])) api.forbidden.add(right);
      console.log('serving');`;
    const double = join(root, 'test/support/double/serve.ts');
    const given = [double, kubeconfig, JSON.stringify(objects), JSON.stringify(forbidden)];
    const served = lab.start('node', [process.execPath, '--input-type=module', '-e', code, ...given]);
    await served.line((line) => line === 'serving');
    daemon = new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig]);
    await daemon.start({ hasSocketLb: true });
    return daemon;
  }

  test('NetworkPolicies of the cluster are a warning, and preflight finds every right', async () => {
    await withApiServer([...nodes(), policy]);
    const { lines } = await until((answer) => answer.lines.get('Policies')?.severity === 'SEVERITY_WARNING');
    expect(lines.get('Policies')).toMatchObject({
      summary: 'the cluster has 1 NetworkPolicy',
      details: [expect.stringMatching(/^Sluice does not enforce NetworkPolicies/)],
    });
    expect(ask()).toMatchObject({ exitCode: 0, severity: 'SEVERITY_WARNING' });
    const cli = join(root, 'daemon/cli/main.ts');
    const text = lab.run('node', process.execPath, cli, 'preflight', ...daemon.flags(true));
    const results = [...text.matchAll(/^(API server \S+|right \S+): +(\w+)/gm)].map(([, , state]) => state);
    expect(results).toEqual(Array.from({ length: 6 }, () => 'Ok'));
  });

  test('without the right to list NetworkPolicies, the status calls them unknown, and this is not a problem', async () => {
    await withApiServer([...nodes(), policy], ['list networkpolicies']);
    const { lines, exitCode, severity } = await until((answer) => answer.lines.get('Policies')?.summary !== 'not asked yet');
    expect({ exitCode, severity }).toEqual({ exitCode: 0, severity: 'SEVERITY_OK' });
    expect(lines.get('Policies')?.summary).toMatch(/^unknown: the ClusterRole does not grant the verb "list" on networkpolicies/);
  });
});

describe('another sluiced', () => {
  /** Starts a second daemon on the same node, with its own pin path. */
  async function second(flags = daemon.flags(true)): Promise<LabProcess> {
    const own = ['--pin-path', join(lab.bpffs, 'deep/er/other'), '--socket', join(lab.directory, 'run-2', 'sluice.sock')];
    const command = [process.execPath, join(root, 'daemon/main.ts'), ...flags, ...own];
    const started = lab.start('node', [...command, '--healthz-bind-address', 'off']);
    await started.line((line) => line.includes('"msg":"ready"'));
    return started;
  }

  const message = (hook: string, count: number): RegExp =>
    new RegExp(
      `^programs of another sluiced, with the pin path ${join(lab.bpffs, 'deep/er/other')}, are on the hooks of this one ` +
        `\\(${hook}.* and ${count - 3} more\\), .*: stop the other sluiced and run \`sluice uninstall --pin-path ${join(lab.bpffs, 'deep/er/other')}\`$`,
    );

  test('another sluiced on the same devices and cgroup is a warning that names its pin path, until its programs are gone', async () => {
    await daemon.start({ hasSocketLb: true });
    expect(ask().lines.get('Programs')?.severity).toBe('SEVERITY_OK');
    const other = await second();
    expect(warningOf('Programs')).toEqual([expect.stringMatching(message('tc_\\w+ on \\w+', 14))]);
    await twoLogPeriods();
    expect(logged('programs of another sluiced')).toHaveLength(1);
    // The programs of the other sluiced stay after it has ended, so the warning stays too.
    await other.kill();
    expect(warningOf('Programs')).toHaveLength(1);
    sh(
      process.execPath,
      join(root, 'daemon/cli/main.ts'),
      'uninstall',
      '--pin-path',
      join(lab.bpffs, 'deep/er/other'),
      '--socket',
      '/nowhere/s',
    );
    // The hooks are inspected at most once a second.
    const { lines } = await until((answer) => answer.lines.get('Programs')?.severity === 'SEVERITY_OK');
    expect(lines.get('Programs')?.summary).toBe('14 attached (6 tcx, 8 cgroup)');
  });

  test('another sluiced on a parent of the cgroup of this daemon is a warning too', async () => {
    const child = join(lab.cgroup, 'below');
    execFileSync('mkdir', [child]);
    try {
      await daemon.start({ hasSocketLb: true, extra: ['--cgroup', child] });
      const devices = new Map([
        ['eth0', 'off'],
        ['lxc', 'off'],
      ]);
      const onlySockets = daemon.flags(true).map((flag) => devices.get(flag) ?? flag);
      await second(onlySockets);
      expect(warningOf('Programs')).toEqual([expect.stringMatching(message(`sock_connect4 on ${lab.cgroup}, `, 8))]);
      await daemon.process?.kill();
    } finally {
      execFileSync('rmdir', [child]);
    }
  });

  test('another sluiced is found even by a daemon that has only the capabilities of the DaemonSet', async () => {
    const drop = ['setpriv', '--bounding-set', '-all,+bpf,+perfmon,+net_admin', '--inh-caps', '-all'];
    const running = lab.start('node', [...drop, process.execPath, join(root, 'daemon/main.ts'), ...daemon.flags(true)]);
    await running.line((line) => line.includes('"msg":"ready"'));
    expect(ask().lines.get('Programs')?.severity).toBe('SEVERITY_OK');
    await second();
    // The pins of others are searched at most once in ten seconds. Until then, the status names their programs by id.
    await until(({ lines }) => lines.get('Programs')?.details?.some((each) => each.includes('another sluiced')) === true);
    expect(warningOf('Programs')).toEqual([expect.stringMatching(message('tc_\\w+ on \\w+', 14))]);
    await running.kill();
  });
});

test('a program that another process detached is reported as missing until it is attached again, and the exit code of sluice status is 1', async () => {
  await daemon.start({ hasSocketLb: true, extra: ['--sync-period', '1h'] });
  const links = join(lab.bpffs, 'sluice/links');
  for (const name of readdirSync(links).filter((each) => each.startsWith('sock_getpeer')))
    execFileSync('bpftool', ['link', 'detach', 'pinned', join(links, name)]);
  const { exitCode, severity, lines } = await until((answer) => answer.lines.get('Programs')?.severity !== 'SEVERITY_OK');
  expect({ exitCode, severity }).toEqual({ exitCode: 1, severity: 'SEVERITY_DEGRADED' });
  expect(lines.get('Programs')).toMatchObject({
    summary: '12 of 14 attached (6 tcx, 8 cgroup)',
    details: ['sock_getpeer4', 'sock_getpeer6'].map(
      (name) => expect.stringContaining(`${name} on ${lab.cgroup} is not attached`) as string,
    ),
  });
});

test('a frontend that several Services claim is logged once, and again when its owner changes', async () => {
  const other = { IPv4: vips.IPv4, IPv6: 'fd00:96::77' };
  daemon.write('late.yaml', service('zzz', other), ...slices('zzz', [1]));
  await daemon.start({ hasSocketLb: false });
  expect(warningOf('Conflicts')).toEqual([
    expect.stringContaining('served for default/web:dns/UDP/IPv4, not for default/zzz:dns/UDP/IPv4'),
    expect.stringContaining('served for default/web:web/TCP/IPv4, not for default/zzz:web/TCP/IPv4'),
  ]);
  // After each change of an endpoint the daemon computes the claims again.
  for (let round = 0; round < 5; round += 1) {
    daemon.write('web.yaml', service('web'), ...slices('web', round % 2 === 0 ? [1, 9] : [1]));
    await new Promise((resolve) => setTimeout(resolve, 1500));
  }
  await twoLogPeriods();
  expect(logged(`frontend ${vips.IPv4}:80/TCP: served for default/web:web/TCP/IPv4, not for default/zzz`)).toHaveLength(1);
  daemon.write('late.yaml', service('aaa', other), ...slices('aaa', [1]));
  await daemon.process?.line((line) =>
    line.includes(`frontend ${vips.IPv4}:80/TCP: served for default/aaa:web/TCP/IPv4, not for default/web`),
  );
});
