// SPDX-License-Identifier: Apache-2.0
// The `sluice` command with a real server on a temporary socket: output and exit codes.
import { spawn } from 'node:child_process';
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { GrpcServer } from '../../../daemon/api/grpc.ts';
import type { ServiceView } from '../../../daemon/status/view.ts';
import type { PreflightOptions } from '../../../daemon/cli/preflight.ts';
import { run } from '../../../daemon/cli/run.ts';
import type { UninstallOptions } from '../../../daemon/cli/uninstall.ts';
import { KernelError, ExitError } from '../../../daemon/base/errors.ts';
import { FakeView, handover, services, status, troubledStatus } from '../api/fixture.ts';

let directory: string;
let socketPath: string;
let view: FakeView;
let server: GrpcServer;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-cli-'));
  socketPath = join(directory, 's.sock');
  view = new FakeView();
  server = new GrpcServer({ view, reload: () => expect.fail('nothing reloads here'), handover, socketPath });
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
  test('status prints one line per subject for a healthy agent', async () => {
    const { exitCode, out, err } = await sluice('status');
    expect({ exitCode, err }).toEqual({ exitCode: 0, err: '' });
    expect(out).toMatchInlineSnapshot(`
      "Sluice:      Ok   0.1.0 (commit abc1234), libbpf 1.5.0, kernel 6.18.0; node node-a, pid 4242, up 1h2m
      Ready:       Ok   yes
      Source:      Ok   files /etc/sluice: first list complete, 0 problems
      Node:        Ok   node-a
      Reconcile:   Ok   12 done, 0 pending, 0 failed; 10 Services, 12 frontends, 30 backends desired
      Conflicts:   Ok   every frontend is claimed by one Service only
      Host:        Ok   no problem found
      Devices:     Ok   1 uplink, 3 pod interfaces
      Programs:    Ok   2 attached (1 tcx, 1 cgroup)
      Repairs:     Ok   0 differences repaired
      Maps:        Ok   2 maps, fullest: lb4_frontends with 12 of 65536 entries (0.0 %)
      Policies:    Ok   no NetworkPolicy in the cluster

      Programs that sluiced keeps attached:
        tc_pod_in on veth0 ingress (tcx)
        sock_connect4 on /sys/fs/cgroup connect4 (cgroup)
      Dropped packets since the maps were created:
        no backend: 9007199254740993 packets, 540 bytes
      "
    `);
  });

  test('status prints each problem of an agent below the line of its subject', async () => {
    view.current = troubledStatus;
    const { exitCode, out, err } = await sluice('status');
    expect({ exitCode, err }).toEqual({ exitCode: 1, err: '' });
    expect(out).toMatchInlineSnapshot(`
      "Sluice:      Ok         0.1.0 (commit abc1234), libbpf 1.5.0, kernel 6.18.0; node node-a, pid 4242, up 1h2m
      Ready:       NotReady   no
        - the first list of the source files /etc/sluice is not complete
      Source:      NotReady   files /etc/sluice: first list not complete, some objects or files could not be read, 2 problems
        - web.yaml:7: Service default/web spec.ports[0].port: must be 1..65535, is 70000
        - broken.yaml: cannot be read: EACCES
      Node:        Ok         node-a
      Reconcile:   Degraded   10 done, 1 pending, 1 failed; 10 Services, 12 frontends, 30 backends desired
        - default/big:/TCP/IPv4: lb4_backends is full (3 attempts)
      Conflicts:   Warning    1 frontend claimed by more than one Service
        - 10.96.0.10:80/TCP: served for default/web:http/TCP/IPv4, not for default/late:http/TCP/IPv4
      Host:        Degraded   1 problem
        - net.ipv4.ip_forward is 0: set it to 1
      Devices:     Ok         1 uplink, 3 pod interfaces
      Programs:    Warning    none attached: no packet is translated
      Repairs:     Degraded   3 differences repaired
        - map ct4 could not be repaired: pin /sys/fs/bpf/sluice/maps/ct4: EPERM
        - 2026-11-23T04:05:06.000Z tc_pod_in on lxc1: link was detached
      Maps:        Warning    1 map, fullest: lb4_frontends with 95 of 100 entries (95.0 %)
        - lb4_frontends with 95 of 100 entries (95.0 %): increase --max-frontends, which takes effect when sluiced starts after \`sluice uninstall\`
      Policies:    Ok         no NetworkPolicy in the cluster

      Programs that sluiced keeps attached: none
      Dropped packets since the maps were created: none
      "
    `);
  });

  test.for([
    { name: 'not ready', change: { ready: false, reasons: ['first reconcile not done'] }, exitCode: 1 },
    { name: 'a host problem', change: { hostProblems: ['no route to 10.96.0.0/12'] }, exitCode: 1 },
    { name: 'failed rows', change: { reconcile: { done: 1, pending: 0, error: 1, errors: [] } }, exitCode: 1 },
    {
      name: 'a source that is not completely read',
      change: { sources: [{ name: 'files /x', isInitialized: true, isComplete: false, problems: [] }] },
      exitCode: 1,
    },
    { name: 'a contested frontend', change: { conflicts: troubledStatus.conflicts }, exitCode: 0 },
    { name: 'a nearly full map', change: { maps: troubledStatus.maps }, exitCode: 0 },
    { name: 'pending rows', change: { reconcile: { done: 1, pending: 5, error: 0, errors: [] } }, exitCode: 0 },
  ])('status gives exit code $exitCode with $name', async ({ change, exitCode }) => {
    view.current = { ...status, ...change };
    expect((await sluice('status')).exitCode).toBe(exitCode);
    expect((await sluice('status -o json')).exitCode).toBe(exitCode);
  });

  test('status -o json prints the response in protobuf JSON', async () => {
    const { out } = await sluice('status -o json');
    expect(JSON.parse(out)).toMatchObject({ agent: { node: 'node-a' }, ready: true, drops: [{ packets: '9007199254740993' }] });
  });
});

describe('service list', () => {
  test('service list shows the desired backends and the backends in the kernel, and marks every difference', async () => {
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

      2 of 3 Service ports differ from the desired state
      "
    `);
  });

  test('service list -o wide shows scope, status, ids and slots', async () => {
    expect((await sluice('service list -o wide')).out).toMatchInlineSnapshot(`
      "ID   Frontend            Scope      Status        Service            Type        Backend
      -    10.96.0.99:53/UDP   internal   not desired   -                  -           1 => 10.0.9.9:53/UDP (kernel only, id 9, 1 slot)
        ! kernel holds frontend 10.96.0.99:53/UDP that no Service wants
      2    [fd00::a]:443/TCP   internal   error         default/api        ClusterIP   1 => [fd01::1]:8443/TCP (active, local, id 4, 1 slot)
                                                                                       2 => [fd01::2]:8443/TCP (active)
        ! kernel lacks [fd01::2]:8443
        ! 3 attempts failed: lb6_backends is full
      1    10.96.0.10:80/TCP   internal   done          default/web:http   ClusterIP   1 => 10.0.0.1:8080/TCP (active, local, id 1, 1 slot)
                                                                                       2 => 10.0.0.2:8080/TCP (terminating)

      2 of 3 Service ports differ from the desired state
      "
    `);
  });

  test('service list shows Service ports with several frontends, without a frontend, and without backends', async () => {
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
        ! not applied yet

      1 of 3 Service ports differ from the desired state
      "
    `);
  });

  test('service list -o json prints the response', async () => {
    const { services: listed } = JSON.parse((await sluice('service list -o json')).out) as { services: object[] };
    expect(listed[1]).toMatchObject({ key: 'default/api:/TCP/IPv6', inSync: false, row: { state: 'ROW_STATE_ERROR' } });
  });

  test('names and messages cannot control the terminal, and JSON stays valid', async () => {
    const [[, , web], control] = [services as [ServiceView, ServiceView, ServiceView], /(?!\n)[\p{Cc}\u202e]/u] as const;
    const evil = 'web\u001b[2J\u009b31m\r\n10.0.0.1:80   forged\u202e';
    view.rows = [{ ...web, name: evil, differences: [evil], row: { state: 'error', message: evil, retries: 1 } }];
    const { out } = await sluice('service list -o wide');
    expect([control.test(out), out.includes('\n10.0.0.1:80   forged')]).toEqual([false, false]);
    const { out: json } = await sluice('service list -o json');
    expect([control.test(json), JSON.parse(json)]).toMatchObject([false, { services: [{ name: evil, differences: [evil] }] }]);
    view.current = { ...troubledStatus, node: evil };
    for (const line of ['status', `-${evil.replaceAll(' ', '')}`]) expect(Object.values(await sluice(line)).join('')).not.toMatch(control);
  });

  test('a list of 30,000 Services is printed, page by page', async () => {
    const [, , web] = services as [ServiceView, ServiceView, ServiceView];
    view.rows = Array.from({ length: 30_000 }, (_, id) => ({ ...web, id, key: `default/w${100_000 + id}:http/TCP/IPv4` }));
    const { exitCode, out } = await sluice('service list --timeout 30s');
    expect(exitCode).toBe(0);
    expect(out.split('\n')).toHaveLength(60_002);
  });
});

test('backend list', async () => {
  expect((await sluice('backend list')).out).toMatchInlineSnapshot(`
    "ID   Backend         Generation   Flags                          Service                     Frontend
    1    10.0.0.1:8080   1            usable,local,serving,present   default/web:http/TCP/IPv4   10.96.0.10:80/TCP
    9    10.0.9.9:53     7            present                        ! not desired               10.96.0.99:53/UDP
    "
  `);
  expect(JSON.parse((await sluice('backend list -o json')).out)).toMatchObject({ backends: [{ id: 1 }, { id: 9, wanted: false }] });
});

describe('a failure is one message with an exit code', () => {
  test('a missing daemon is reported with exit code 6', async () => {
    await server.stop();
    expect(await sluice('status')).toEqual({
      exitCode: 6,
      out: '',
      err: 'sluice: the socket DIR/s.sock does not exist: start sluiced, or set the path of its socket with --socket or SLUICE_SOCKET\n',
    });
  });

  test('a daemon that has ended is reported with one message', async () => {
    const dead = createServer();
    await new Promise<void>((resolve) => void dead.listen(join(directory, 'first'), () => resolve()));
    renameSync(join(directory, 'first'), join(directory, 'dead'));
    await new Promise<void>((resolve) => void dead.close(() => resolve()));
    const { exitCode, err } = await sluice(`service list --socket ${join(directory, 'dead')}`);
    expect([exitCode, err]).toEqual([6, 'sluice: no process listens on the socket DIR/dead: sluiced has ended, start it again\n']);
  });

  test('a daemon that does not respond is reported with one message', async () => {
    const mute = createServer(() => undefined);
    const path = join(directory, 'mute');
    await new Promise<void>((resolve) => void mute.listen(path, () => resolve()));
    const { exitCode, err } = await sluice(`status --socket ${path} --timeout 100ms`);
    mute.close();
    expect([exitCode, err]).toEqual([
      6,
      'sluice: the daemon at DIR/mute did not respond within 100 ms: increase --timeout, or read the log of the daemon\n',
    ]);
  });

  test('a daemon that fails is reported with one message', async () => {
    view.failure = new KernelError({ op: 'map look-up', object: 'ct4', errno: 9, code: 'EBADF' });
    const { exitCode, err } = await sluice('backend list');
    expect([exitCode, err]).toEqual([1, 'sluice: the daemon at DIR/s.sock failed to respond (INTERNAL): read the log of the daemon\n']);
  });

  test.for([
    {
      name: 'unknown command',
      line: 'servce list',
      want: '"servce" is not a command (did you mean service?); sluice --help lists the commands',
    },
    { name: 'unknown flag', line: 'status --jsn', want: '--jsn is not a flag; sluice status --help lists the flags' },
    {
      name: 'unknown format',
      line: 'status -o xml',
      want: '--output must be table or json, is "xml"',
    },
    {
      name: 'invalid time',
      line: 'status --timeout soon',
      want: '--timeout soon is not a valid time: use seconds, or a number with the unit ms, s or m',
    },
    { name: 'too many arguments', line: 'status now', want: '"now" is not expected; sluice status --help lists the arguments' },
  ])('an invalid command line is rejected: $name', async ({ line, want }) => {
    expect(await sluice(line)).toEqual({ exitCode: 2, out: '', err: `sluice: ${want}\n` });
  });

  test.for([{ line: '' }, { line: 'service' }])('"sluice $line" shows help and fails', async ({ line }) => {
    const { exitCode, err } = await sluice(line);
    expect(exitCode).toBe(2);
    expect(err).toContain('Usage: sluice');
  });

  test('--help prints the commands and exits with 0', async () => {
    const { exitCode, out } = await sluice('--help', { env: {} });
    expect(exitCode).toBe(0);
    expect(out).toMatchInlineSnapshot(`
      "Usage: sluice [options] [command]

      Inspects and operates the Sluice agent of this node. Commands that show state compare the desired state with
      the kernel.

      Options:
        --socket <PATH>                 Unix socket of the daemon's API (SLUICE_SOCKET) (default:
                                        "/run/sluice/sluice.sock")
        --timeout <TIME>                maximum time to wait for a response, such as 10s or 500ms (default: 5s)
        -h, --help                      display help for command

      Commands:
        status [options]                show the state of the agent, the sources, the host and the datapath; exits
                                        with 1 when the agent is degraded or not ready
        service                         inspect Services and their frontends
        backend                         inspect backend entries in the kernel
        reload [options]                load the BPF programs from disk and replace all attached programs, each
                                        atomically; if one replacement fails, the previous programs are restored
        drain                           begin to give the node back to kube-proxy: open flows are served until they
                                        end, and new connections are left to kube-proxy; the state outlives the
                                        daemon; \`sluice migrate\` ends it
        migrate [options]               begin to take the node over from kube-proxy, as a new installation does: new
                                        connections are served, and those that kube-proxy has opened pass untouched
        explain [options] [PACKET...]   show what happens to a packet, and why, by test runs of the programs; sends
                                        no packet and changes no state
        plan [options]                  print the frontends of a node for a directory of objects, or the differences
                                        from a running daemon; exits with 3 when an object cannot be used
        preflight [options] [FLAGS...]  check whether sluiced can serve this host with the given flags, and whether
                                        it can read from the API server; changes nothing; exits with the code with
                                        which sluiced would fail
        uninstall [options]             remove every program, link, map, pin and file of Sluice from this node; the
                                        daemon must not be running; what is not from Sluice is left and named
        help [command]                  display help for command

      Exit codes:
        0  success
        1  the command failed, the agent is degraded or not ready, or uninstall left something
        2  invalid arguments
        3  an object or a named file cannot be used
        5  the kernel rejected a call (uninstall)
        6  the daemon cannot be reached
      preflight exits with the code with which sluiced would fail (see sluiced --help), and with 1 if sluiced would start and not become ready.
      "
    `);
  });
});

describe('uninstall', () => {
  test('uninstall passes its flags to the checks and needs no daemon', async () => {
    await server.stop();
    let given: object = {};
    const uninstall: Uninstall = ({ print, ...options }) => {
      given = options;
      print('would remove 2 links');
      return Promise.resolve(0);
    };
    const result = await sluice('uninstall --dry-run --pin-path /pins --socket /s', { uninstall });
    expect(result).toEqual({ exitCode: 0, out: 'would remove 2 links\n', err: '' });
    expect(given).toEqual({ pinPath: '/pins', socket: '/s', dryRun: true, isForced: false });
    await sluice('uninstall --force', { uninstall, env: {} });
    expect(given).toEqual({ pinPath: '/sys/fs/bpf/sluice', socket: '/run/sluice/sluice.sock', dryRun: false, isForced: true });
  });

  test.for([
    {
      name: 'a rejection',
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
    {
      name: 'an unexpected error',
      error: new TypeError('odd'),
      exitCode: 1,
      err: expect.stringMatching(/^sluice: unexpected error \(TypeError\).*: this is a defect of Sluice, please report it\n$/) as string,
    },
  ])('an uninstall that ends in $name prints one message and sets the exit code', async ({ error, exitCode, err }) => {
    expect(await sluice('uninstall', { uninstall: () => Promise.reject(error) })).toEqual({ exitCode, out: '', err });
  });
});

test('a reader that closes the pipe does not cause an error', async () => {
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

test('preflight receives the flags of sluiced and the socket, and returns the exit code of the checks', async () => {
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
