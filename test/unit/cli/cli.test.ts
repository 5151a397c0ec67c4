// SPDX-License-Identifier: Apache-2.0
// The `sluice` command against a real server on a temporary socket: what it prints and the exit codes.
import { spawn } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { GrpcServer } from '../../../daemon/api/grpc.ts';
import type { ReloadReport, ServiceView } from '../../../daemon/status/view.ts';
import { type PreflightOptions, run, type UninstallOptions } from '../../../daemon/cli/run.ts';
import { KernelError, ExitError } from '../../../daemon/base/errors.ts';
import { FakeView, services, status, troubledStatus } from '../api/fixture.ts';

let directory: string;
let socketPath: string;
let view: FakeView;
let server: GrpcServer;
let reload: () => ReloadReport;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
  socketPath = join(directory, 's.sock');
  view = new FakeView();
  reload = () => ({ hooks: 12, milliseconds: 34.5 });
  server = new GrpcServer({ view, reload: () => reload(), socketPath });
  await server.start();
});

afterEach(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

type Uninstall = (options: UninstallOptions) => Promise<number>;

interface Result {
  readonly exitCode: number;
  readonly out: string;
  readonly err: string;
}

interface Given {
  readonly uninstall?: Uninstall;
  readonly preflight?: (options: PreflightOptions) => Promise<number>;
  readonly env?: Record<string, string>;
}

async function sluice(line: string, { uninstall, preflight, env }: Given = {}): Promise<Result> {
  let [out, err] = ['', ''];
  const exitCode = await run(
    line.split(' ').filter((word) => word !== ''),
    {
      env: env ?? { SLUICE_SOCKET: socketPath },
      out: (text) => (out += text),
      err: (text) => (err += text),
      preflight: preflight ?? (() => Promise.resolve(0)),
      plan: async (options) => (await import('../../../daemon/cli/plan.ts')).runPlan(options),
      explain: async (options) => (await import('../../../daemon/cli/explain.ts')).runExplain(options),
      uninstall: uninstall ?? (() => Promise.resolve(0)),
    },
  );
  return { exitCode, out, err: err.replaceAll(directory, 'DIR') };
}

describe('status', () => {
  test('of a healthy agent', async () => {
    const { exitCode, out, err } = await sluice('status');
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' });
    expect(out).toMatchInlineSnapshot(`
      "Sluice:      Ok   0.1.0 (commit abc1234), libbpf 1.5.0, kernel 6.18.0; node node-a, pid 4242, up 1h2m
      Ready:       Ok   yes
      Source:      Ok   files /etc/sluice: first list done, 0 problems
      Reconcile:   Ok   12 done, 0 pending, 0 failed; 10 Services, 12 frontends, 30 backends wanted
      Conflicts:   Ok   no frontend is claimed twice
      Host:        Ok   has all that is needed
      Programs:    Ok   2 attached (1 tcx, 1 cgroup)
      Repairs:     Ok   nothing was changed by others
      Maps:        Ok   2 maps, the fullest lb4_frontends with 12 of 65536 entries (0.0 %)

      KubeProxyReplacement Details:
        Status:       True
        Socket LB:    Enabled
        Protocols:    TCP, UDP
        Services:
          - ClusterIP
        Programs:
          tc_pod_ingress on veth0 ingress (tcx)
          sock_connect4 on /sys/fs/cgroup connect4 (cgroup)
        Drops:
          no backend: 9007199254740993 packets, 540 bytes
      "
    `);
  });

  test('of an agent in trouble', async () => {
    view.current = troubledStatus;
    const { exitCode, out, err } = await sluice('status');
    expect({ exitCode, err }).toEqual({ exitCode: 1, err: '' });
    expect(out).toMatchInlineSnapshot(`
      "Sluice:      Ok         0.1.0 (commit abc1234), libbpf 1.5.0, kernel 6.18.0; node node-a, pid 4242, up 1h2m
      Ready:       NotReady   no
        - the source files /etc/sluice has not finished its first list
      Source:      NotReady   files /etc/sluice: first list not finished, partly unread, 2 problems
        - web.yaml:7: Service default/web spec.ports[0].port: port 70000 is not between 1 and 65535
        - broken.yaml: cannot be read: EACCES
      Reconcile:   Degraded   10 done, 1 pending, 1 failed; 10 Services, 12 frontends, 30 backends wanted
        - default/big:/TCP/IPv4: lb4_backends is full (3 attempts)
      Conflicts:   Warning    1 frontend claimed by more than one Service
        - 10.96.0.10:80/TCP: default/web:http/TCP/IPv4 has it, default/late:http/TCP/IPv4 does not get it
      Host:        Degraded   1 problem
        - net.ipv4.ip_forward is 0: set it to 1
      Programs:    Warning    none attached: no packet is translated
      Repairs:     Degraded   3 things changed by others and put back
        - map ct4 could not be repaired: pin /sys/fs/bpf/sluice/maps/ct4: EPERM
        - 2026-11-23T04:05:06.000Z tc_pod_in on lxc1: link was detached
      Maps:        Warning    1 map, the fullest lb4_frontends with 95 of 100 entries (95.0 %)
        - lb4_frontends with 95 of 100 entries (95.0 %): give it room with a larger --max-... setting

      KubeProxyReplacement Details:
        Status:       False
        Socket LB:    Enabled
        Protocols:    TCP, UDP
        Services:
          - ClusterIP
        Programs:     none
        Drops:        none
      "
    `);
  });

  test.for([
    { name: 'not ready', change: { ready: false, reasons: ['first reconcile not done'] }, exitCode: 1 },
    { name: 'a host problem', change: { hostProblems: ['no route to 10.96.0.0/12'] }, exitCode: 1 },
    { name: 'failed rows', change: { reconcile: { done: 1, pending: 0, error: 1, errors: [] } }, exitCode: 1 },
    {
      name: 'an unread part of the source',
      change: { sources: [{ name: 'files /x', isInitialized: true, isComplete: false, problems: [] }] },
      exitCode: 1,
    },
    { name: 'a contested frontend', change: { conflicts: troubledStatus.conflicts }, exitCode: 0 },
    { name: 'a nearly full map', change: { maps: troubledStatus.maps }, exitCode: 0 },
    { name: 'rows that wait', change: { reconcile: { done: 1, pending: 5, error: 0, errors: [] } }, exitCode: 0 },
  ])('$name gives exit code $exitCode', async ({ change, exitCode }) => {
    view.current = { ...status, ...change };
    expect((await sluice('status')).exitCode).toBe(exitCode);
    expect((await sluice('status -o json')).exitCode).toBe(exitCode);
  });

  test('-o json is the response in protobuf JSON', async () => {
    const { out } = await sluice('status -o json');
    expect(JSON.parse(out)).toMatchObject({ agent: { node: 'node-a' }, ready: true, drops: [{ packets: '9007199254740993' }] });
  });
});

describe('service list', () => {
  test('shows wanted beside held and marks every difference', async () => {
    const { exitCode, out } = await sluice('service list');
    expect(exitCode).toBe(0);
    expect(out).toMatchInlineSnapshot(`
      "ID   Frontend            Service            Type        Backend
      -    10.96.0.99:53/UDP   -                  -           1 => 10.0.9.9:53/UDP (kernel only)
        ! kernel holds frontend 10.96.0.99:53/UDP that no Service wants
      2    [fd00::a]:443/TCP   default/api        ClusterIP   1 => [fd01::1]:8443/TCP (active)
                                                              2 => [fd01::2]:8443/TCP (active)
        ! kernel lacks [fd01::2]:8443
        ! 3 attempts failed: lb6_backends is full
      1    10.96.0.10:80/TCP   default/web:http   ClusterIP   1 => 10.0.0.1:8080/TCP (active)
                                                              2 => 10.0.0.2:8080/TCP (terminating)

      2 of 3 Service ports not as wanted in the kernel
      "
    `);
  });

  test('-o wide', async () => {
    expect((await sluice('service list -o wide')).out).toMatchInlineSnapshot(`
      "ID   Frontend            Scope      Status       Service            Type        Backend
      -    10.96.0.99:53/UDP   internal   not wanted   -                  -           1 => 10.0.9.9:53/UDP (kernel only, id 9, 1 slot)
        ! kernel holds frontend 10.96.0.99:53/UDP that no Service wants
      2    [fd00::a]:443/TCP   internal   error        default/api        ClusterIP   1 => [fd01::1]:8443/TCP (active, local, id 4, 1 slot)
                                                                                      2 => [fd01::2]:8443/TCP (active)
        ! kernel lacks [fd01::2]:8443
        ! 3 attempts failed: lb6_backends is full
      1    10.96.0.10:80/TCP   internal   done         default/web:http   ClusterIP   1 => 10.0.0.1:8080/TCP (active, local, id 1, 1 slot)
                                                                                      2 => 10.0.0.2:8080/TCP (terminating)

      2 of 3 Service ports not as wanted in the kernel
      "
    `);
  });

  test('of ports with several frontends, none, and no backends', async () => {
    const [, , web] = services as [ServiceView, ServiceView, ServiceView];
    const [frontend] = web.frontends as [ServiceView['frontends'][number]];
    view.rows = [
      { ...web, id: 0, key: 'a', name: 'loser', frontends: [], backends: [], run: [] },
      { ...web, frontends: [frontend, { ...frontend, address: '10.96.0.11' }] },
      { ...web, key: 'z', id: 7, name: 'empty', backends: [], run: [], row: { state: 'pending', message: '', retries: 0 } },
    ];
    expect((await sluice('service list')).out).toMatchInlineSnapshot(`
      "ID   Frontend            Service              Type        Backend
      -    -                   default/loser:http   -           no backend
      1    10.96.0.10:80/TCP   default/web:http     ClusterIP   1 => 10.0.0.1:8080/TCP (active)
                                                                2 => 10.0.0.2:8080/TCP (terminating)
      1    10.96.0.11:80/TCP   default/web:http     ClusterIP   1 => 10.0.0.1:8080/TCP (active)
                                                                2 => 10.0.0.2:8080/TCP (terminating)
      7    10.96.0.10:80/TCP   default/empty:http   ClusterIP   no backend
        ! waits to be applied

      1 of 3 Service ports not as wanted in the kernel
      "
    `);
  });

  test('-o json', async () => {
    const { services: listed } = JSON.parse((await sluice('service list -o json')).out) as { services: object[] };
    expect(listed[1]).toMatchObject({ key: 'default/api:/TCP/IPv6', inSync: false, row: { state: 'ROW_STATE_ERROR' } });
  });

  test('of thirty thousand Services may be larger than a default gRPC message', async () => {
    const [, , web] = services as [ServiceView, ServiceView, ServiceView];
    view.rows = Array.from({ length: 30_000 }, (_, id) => ({ ...web, id, key: `default/web-${id}:http/TCP/IPv4`, name: `web-${id}` }));
    const { exitCode, out } = await sluice('service list --timeout 30s');
    expect(exitCode).toBe(0);
    expect(out.split('\n')).toHaveLength(60_002);
  });
});

test('backend list', async () => {
  expect((await sluice('backend list')).out).toMatchInlineSnapshot(`
    "ID   Backend         Generation   Flags                          Service                     Frontend
    1    10.0.0.1:8080   1            usable,local,serving,present   default/web:http/TCP/IPv4   10.96.0.10:80/TCP
    9    10.0.9.9:53     7            present                        ! nobody wants it           10.96.0.99:53/UDP
    "
  `);
  expect(JSON.parse((await sluice('backend list -o json')).out)).toMatchObject({ backends: [{ id: 1 }, { id: 9, wanted: false }] });
});

describe('failures are one sentence with an exit code', () => {
  test('no daemon', async () => {
    await server.stop();
    expect(await sluice('status')).toEqual({
      exitCode: 6,
      out: '',
      err: 'sluice: there is no socket at DIR/s.sock: start sluiced, or name its socket with --socket or SLUICE_SOCKET\n',
    });
  });

  test('a daemon that died', async () => {
    const dead = createServer();
    await new Promise<void>((resolve) => void dead.listen(join(directory, 'first'), () => resolve()));
    renameSync(join(directory, 'first'), join(directory, 'dead'));
    await new Promise<void>((resolve) => void dead.close(() => resolve()));
    const { exitCode, err } = await sluice(`service list --socket ${join(directory, 'dead')}`);
    expect([exitCode, err]).toEqual([6, 'sluice: nobody listens at DIR/dead: sluiced has ended, start it again\n']);
  });

  test('a daemon that does not answer', async () => {
    const mute = createServer(() => undefined);
    const path = join(directory, 'mute');
    await new Promise<void>((resolve) => void mute.listen(path, () => resolve()));
    const { exitCode, err } = await sluice(`status --socket ${path} --timeout 100ms`);
    mute.close();
    expect([exitCode, err]).toEqual([
      6,
      'sluice: the daemon at DIR/mute did not answer within 100 ms: give it longer with --timeout, or look at its log\n',
    ]);
  });

  test('a daemon that fails', async () => {
    view.failure = new KernelError({ op: 'map look-up', object: 'ct4', errno: 9, code: 'EBADF' });
    const { exitCode, err } = await sluice('backend list');
    expect([exitCode, err]).toEqual([
      1,
      'sluice: the daemon at DIR/s.sock could not answer: the agent could not read its own state; its log says why\n',
    ]);
  });

  test.for([
    { name: 'unknown command', line: 'servce list', want: "unknown command 'servce' (Did you mean service?)" },
    { name: 'unknown flag', line: 'status --jsn', want: "unknown option '--jsn'" },
    {
      name: 'unknown format',
      line: 'status -o xml',
      want: "option '-o, --output <FORMAT>' argument 'xml' is invalid. Allowed choices are table, json.",
    },
    { name: 'no time', line: 'status --timeout soon', want: '--timeout soon is no time: write seconds, or a number with ms, s or m' },
    { name: 'too much', line: 'status now', want: "too many arguments for 'status'. Expected 0 arguments but got 1: now." },
  ])('$name', async ({ line, want }) => {
    expect(await sluice(line)).toEqual({ exitCode: 2, out: '', err: `sluice: ${want}\n` });
  });

  test.for([{ line: '' }, { line: 'service' }])('"sluice $line" shows help and fails', async ({ line }) => {
    const { exitCode, err } = await sluice(line);
    expect(exitCode).toBe(2);
    expect(err).toContain('Usage: sluice');
  });

  test('help that is asked for succeeds', async () => {
    const { exitCode, out } = await sluice('--help', { env: {} });
    expect(exitCode).toBe(0);
    expect(out).toMatchInlineSnapshot(`
      "Usage: sluice [options] [command]

      Look at the Sluice agent of this node: what it wants, what the kernel holds, and any difference.

      Options:
        --socket <PATH>                 the daemon's API socket (SLUICE_SOCKET) (default: "/run/sluice/sluice.sock")
        --timeout <TIME>                how long to wait for an answer, such as 10s or 500ms (default: 5s)
        -h, --help                      display help for command

      Commands:
        status [options]                how agent, sources, host and datapath are; exit code 1 when not ready or
                                        degraded
        service                         Services and their frontends
        backend                         backend rows in the kernel
        reload [options]                load the BPF programs anew from disk and replace those that run, between two
                                        packets; all of them or none
        explain [options] [PACKET...]   what would happen to a packet, and why: the running programs are asked,
                                        nothing is sent and no state changes
        plan [options]                  the frontends that a directory of objects would give on a node, and how that
                                        differs from a running daemon; changes nothing
        preflight [options] [FLAGS...]  whether this host can be served, with the flags of sluiced; changes nothing.
                                        Exit code: that of sluiced
        uninstall [options]             remove every program, link, map, pin and file of Sluice from this node; the
                                        daemon must have ended
        help [command]                  display help for command

      Exit codes:
        0  done
        1  failed, or not ready, or degraded
        2  wrong arguments
        5  the kernel refused (uninstall)
        6  the daemon cannot be reached
      Those of preflight are sluiced's: see sluiced --help.
      "
    `);
  });
});

describe('uninstall', () => {
  test('hands over its flags and works without a daemon', async () => {
    await server.stop();
    let given: object = {};
    const uninstall: Uninstall = ({ print, ...options }) => {
      given = options;
      print('would remove 2 links');
      return Promise.resolve(0);
    };
    const result = await sluice('uninstall --dry-run --pin-path /pins --socket /s', { uninstall });
    expect(result).toEqual({ exitCode: 0, out: 'would remove 2 links\n', err: '' });
    expect(given).toEqual({ pinPath: '/pins', socket: '/s', dryRun: true });
    await sluice('uninstall', { uninstall, env: {} });
    expect(given).toEqual({ pinPath: '/sys/fs/bpf/sluice', socket: '/run/sluice/sluice.sock', dryRun: false });
  });

  test.for([
    {
      name: 'a refusal',
      error: new ExitError(4, 'the daemon runs: stop it first'),
      exitCode: 4,
      err: 'sluice: the daemon runs: stop it first\n',
    },
    {
      name: 'a kernel failure',
      error: new KernelError({ op: 'unpin', object: 'ct4', errno: 1, code: 'EPERM' }),
      exitCode: 5,
      err: 'sluice: unpin ct4: EPERM\n',
    },
    { name: 'a surprise', error: new TypeError('odd'), exitCode: 1, err: 'sluice: odd\n' },
  ])('that ends in $name', async ({ error, exitCode, err }) => {
    expect(await sluice('uninstall', { uninstall: () => Promise.reject(error) })).toEqual({ exitCode, out: '', err });
  });
});

test('a reader that closes the pipe is no error', async () => {
  const [, , web] = services as [ServiceView, ServiceView, ServiceView];
  view.rows = Array.from({ length: 5000 }, (_, id) => ({ ...web, id, key: `default/web-${id}` }));
  const main = fileURLToPath(new URL('../../../daemon/cli/main.ts', import.meta.url));
  const child = spawn(process.execPath, [main, 'service', 'list', '--socket', socketPath], { stdio: ['ignore', 'pipe', 'pipe'] });
  let err = '';
  child.stderr.on('data', (text: Buffer) => (err += text.toString()));
  child.stdout.once('data', () => child.stdout.destroy());
  const exitCode = await new Promise((resolve) => void child.once('close', resolve));
  expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' });
});

describe('reload', () => {
  test('says how many programs were replaced', async () => {
    expect(await sluice('reload')).toEqual({ exitCode: 0, out: 'replaced the programs on 12 hooks in 35 ms\n', err: '' });
    expect(JSON.parse((await sluice('reload -o json')).out)).toEqual({ hooks: 12, milliseconds: 34.5 });
  });

  test('refused by the daemon: its sentence, and nothing else', async () => {
    reload = () => {
      throw new ExitError(11, 'the objects have another map layout: restart sluiced');
    };
    expect(await sluice('reload')).toEqual({
      ...{ exitCode: 1, out: '' },
      err: 'sluice: the objects have another map layout: restart sluiced\n',
    });
  });
});

test('preflight gets the flags of sluiced, the socket, and its exit code is passed on', async () => {
  let given: PreflightOptions | undefined;
  const preflight = (options: PreflightOptions): Promise<number> => {
    given = options;
    return Promise.resolve(8);
  };
  const { exitCode } = await sluice('--socket /run/x.sock preflight --source /etc/s --uplinks eth0,eth1 --socket-lb off -o json', {
    preflight,
  });
  expect(exitCode).toBe(8);
  expect(given).toMatchObject({
    ...{ argv: ['--source', '/etc/s', '--uplinks', 'eth0,eth1', '--socket-lb', 'off', '--socket', '/run/x.sock'], isJson: true },
  });
});
