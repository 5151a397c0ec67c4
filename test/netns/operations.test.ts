// SPDX-License-Identifier: Apache-2.0
// Tests the operation of the daemon: service manager, HTTP, signals, flags, permissions of the API socket, and invalid YAML while it
// serves. All tests use one daemon.
import { statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import type { LabProcess } from '../support/lab/process.ts';

let lab: Lab;
let daemon: Daemon;
let client: Client;
let manager: LabProcess;

// The notification socket is served in Perl, because Node.js has no Unix datagram sockets. Perl is part of every Debian system.
const listener =
  'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => $ARGV[0]) or die; $| = 1; print "listening\\n"; while (defined $s->recv(my $m, 4096)) { print "$m\\n" }';

beforeAll(async () => {
  lab = new Lab();
  for (const number of [1, 2, 9]) lab.addPod(number);
  await Promise.all([1, 2].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
  const notify = join(lab.directory, 'notify');
  manager = lab.start('node', ['perl', '-e', listener, notify]);
  await manager.line((line) => line === 'listening');
  await daemon.start({ hasSocketLb: false, extra: ['--http', '127.0.0.1:9880'], env: { NOTIFY_SOCKET: notify } });
  client = await Client.start(lab, 'pod9');
});

afterAll(() => lab.close());

const sluiced = async (...args: string[]): Promise<{ code: number; text: string }> => {
  const run = lab.start('node', [process.execPath, 'daemon/main.ts', ...args]);
  const code = await run.ended;
  return { code, text: run.lines.join('\n') };
};
const get = (path: string): { status: number; body: string } =>
  JSON.parse(
    lab.run(
      'node',
      process.execPath,
      '-e',
      `fetch('http://127.0.0.1:9880${path}').then(async (r) => console.log(JSON.stringify({ status: r.status, body: await r.text() })))`,
    ),
  ) as { status: number; body: string };
const askWeb = (count: number) => client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count });

test('the daemon notifies the service manager when it is ready', async () => {
  await manager.line((line) => line === 'READY=1');
});

test('the HTTP port serves healthz, readyz and metrics', () => {
  expect(get('/healthz').status).toBe(200);
  expect(get('/readyz').status).toBe(200);
  const { body } = get('/metrics');
  expect(body).toMatch(/^sluice_ready 1$/m);
  expect(body).toMatch(/^sluice_bpf_map_pressure\{map_name="lb4_frontends"\} 0\.00\d+$/m);
  expect(body).toMatch(/^sluice_reconcile_rows\{status="done"\} 4$/m);
  expect(get('/nothing').status).toBe(404);
});

test('only the owner and the group can use the API socket and its directory', () => {
  expect((statSync(daemon.socket).mode & 0o777).toString(8)).toBe('660');
  expect((statSync(dirname(daemon.socket)).mode & 0o777).toString(8)).toBe('750');
});

describe('input', () => {
  test.for([
    { name: 'invalid YAML', text: 'kind: Service\nmetadata: {name: web', says: /broken\.yaml:\d/ },
    {
      name: 'another version of a kind',
      text: stringify({ apiVersion: 'v2', kind: 'Service', metadata: { name: 'x' } }),
      says: /broken\.yaml:1: Service .*apiVersion/,
    },
    {
      name: 'an invalid address',
      text: stringify({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'bad', namespace: 'ns' },
        spec: { clusterIP: '10.96.0.300', ports: [{ port: 80 }] },
      }),
      says: /broken\.yaml:\d+: Service ns\/bad spec\.clusterIP/,
    },
    {
      name: 'a port out of range',
      text: stringify({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'bad', namespace: 'ns' },
        spec: { clusterIP: '10.96.0.30', ports: [{ port: 70000 }] },
      }),
      says: /broken\.yaml:\d+: Service ns\/bad spec\.ports\[0\]\.port/,
    },
  ])('$name is reported with its file and line, and all other objects are served', async ({ text, says }) => {
    const from = daemon.process?.lines.length ?? 0;
    writeFileSync(join(daemon.source, 'broken.yaml'), text);
    await daemon.process?.line((line) => says.test(line), from);
    expect((await askWeb(50)).failures).toEqual({});
    writeFileSync(join(daemon.source, 'broken.yaml'), '');
    await daemon.process?.line((line) => line.includes('resolved'), from);
  });

  test('SIGHUP reads the target of a symbolic link again, because a change of the target causes no inotify event', async () => {
    const target = join(lab.directory, 'elsewhere.yaml');
    const documents = (name: string): string =>
      [service(name, { IPv4: '10.96.0.40', IPv6: 'fd00:96::40' }), ...slices(name, [1])].map((each) => stringify(each)).join('---\n');
    writeFileSync(target, documents('linked'));
    symlinkSync(target, join(daemon.source, 'linked.yaml'));
    await daemon.settled((services) => services.some((each) => each.key.startsWith('default/linked')));
    writeFileSync(target, documents('other'));
    daemon.process?.signal('SIGHUP');
    await daemon.settled(
      (services) =>
        services.some((each) => each.key.startsWith('default/other')) && !services.some((each) => each.key.startsWith('default/linked')),
    );
  });
});

describe('flags', () => {
  test('--version prints the versions of program, commit, libbpf and kernel', async () => {
    const { code, text } = await sluiced('--version');
    expect(code).toBe(0);
    expect(text).toMatch(/sluiced \d+\.\d+\.\d+\ncommit \S+\nlibbpf 1\.\d+\S*\nkernel \d+\.\d+/);
  });

  test('--check-config prints every value and its origin, and does not start the daemon', async () => {
    const { code, text } = await sluiced(...daemon.flags(true), '--check-config');
    expect(code).toBe(0);
    expect(text).toMatch(/^node: node-a +# flag --node$/m);
    expect(text).toMatch(/^log-format: json +# default$/m);
  });

  test.for([
    { flags: ['--sorce', 'x'], code: 2, says: /--sorce.*did you mean --source/i },
    {
      flags: [],
      code: 2,
      says: /^sluiced: no source of Services is configured: set --source DIR or --kubeconfig FILE, or run in a pod$/m,
    },
  ])('$flags is rejected with one error message', async ({ flags, code, says }) => {
    const refused = await sluiced(...flags);
    expect(refused.code).toBe(code);
    expect(refused.text).toMatch(says);
    expect(refused.text).not.toMatch(/\n\s+at /);
  });
});

test('sluice names the socket when no daemon answers', () => {
  expect(() => daemon.cliAt(join(lab.directory, 'missing.sock'), 'status')).toThrow(/sluice: .*missing\.sock/);
});
