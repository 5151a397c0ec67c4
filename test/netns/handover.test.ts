// SPDX-License-Identifier: Apache-2.0
// `sluice migrate` and `sluice drain` on one node: the phase outlives the daemon, the socket hooks that translate requests go and return,
// and uninstall waits for the open flows. The cluster test of the migration has a real kube-proxy.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { askStatus } from '../../daemon/cli/client.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses } from '../support/lab/lab.ts';
import { Client, OpenConnections } from '../support/lab/peers.ts';
import { Traffic } from '../support/lab/traffic.ts';

const NODE_PORT = 30_080;
const HELD = 12;
const requestHooks = ['sock_connect4', 'sock_connect6', 'sock_sendmsg4', 'sock_sendmsg6'];
const answerHooks = ['sock_getpeer4', 'sock_getpeer6', 'sock_recvmsg4', 'sock_recvmsg6'];

let lab: Lab;
let daemon: Daemon;
let traffic: Traffic;

beforeEach(async () => {
  lab = new Lab();
  for (const number of [1, 2, 9]) lab.addPod(number);
  traffic = new Traffic(lab);
  await Promise.all(['pod1', 'pod2'].map((pod) => traffic.serve(pod)));
  daemon = new Daemon(lab);
  daemon.write(
    'web.yaml',
    service('web', vips, { spec: { type: 'NodePort' }, nodePorts: { web: NODE_PORT, dns: 30_053 } }),
    ...slices('web', [1, 2]),
  );
});

afterEach(() => lab.close());

const start = (): Promise<void> => daemon.start({ hasSocketLb: true });
const phase = async (): Promise<string> => (await status()).phase;
const status = (): ReturnType<typeof askStatus> => askStatus({ socket: daemon.socket, timeoutMs: 5000 });
const hooks = (): string[] =>
  readdirSync(join(lab.bpffs, 'sluice/links'))
    .filter((name) => name.startsWith('sock_'))
    .sort();
const uninstall = (...flags: string[]): string => daemon.cli('uninstall', '--pin-path', join(lab.bpffs, 'sluice'), ...flags);
const fromPod = (timeoutMs = 5000) => traffic.ask('pod9', { protocol: 'tcp', address: vips.IPv4, port: 80, count: 4, timeoutMs });
const fromOutside = (timeoutMs = 5000) =>
  traffic.ask('outside', { protocol: 'tcp', address: nodeAddresses.IPv4, port: NODE_PORT, count: 4, timeoutMs });

test('a new installation migrates until the migration is done, also over restarts', async () => {
  await start();
  expect(await phase()).toBe('PHASE_MIGRATING');
  await daemon.process?.kill();
  await start();
  expect(await phase()).toBe('PHASE_MIGRATING');
  expect(daemon.cli('status')).toContain('`sluice migrate --done`');
  daemon.cli('migrate', '--done');
  expect(await phase()).toBe('PHASE_SERVING');
  await daemon.process?.kill('SIGKILL');
  await start();
  expect(await phase()).toBe('PHASE_SERVING');
  expect(daemon.cli('status')).not.toContain('Handover');
  expect((await fromOutside()).failures).toEqual({});
});

test('a draining node serves the open connections and nothing else, over a restart, until `sluice migrate`', async () => {
  await start();
  expect(hooks()).toEqual([...requestHooks, ...answerHooks].sort());
  const held = await OpenConnections.start(lab, 'outside', { address: nodeAddresses.IPv4, port: NODE_PORT, count: HELD });
  const servers = await held.ask();
  expect(daemon.cli('drain')).toBe(
    `draining: new connections are left to kube-proxy; open: ${HELD} TCP flows, 0 UDP flows, 0 SCTP flows\n`,
  );

  const isDraining = async (): Promise<void> => {
    expect(hooks()).toEqual(answerHooks);
    // There is no kube-proxy, so nothing serves a new connection.
    for (const result of [await fromPod(500), await fromOutside(500)]) expect(result.answers).toEqual({});
    expect(await held.ask()).toEqual(servers);
  };
  expect(daemon.cli('explain', 'tcp', '10.0.0.254:1234', `${nodeAddresses.IPv4}:${NODE_PORT}`)).toContain('left to kube-proxy');
  await isDraining();
  expect(() => daemon.cli('migrate', '--done')).toThrow('the agent drains');
  await daemon.process?.kill();
  await isDraining();
  await start();
  await isDraining();
  const counted = async (): Promise<string | undefined> => (await status()).openFlows?.tcp;
  for (const end = Date.now() + 10_000; (await counted()) === undefined && Date.now() < end;) await new Promise(setImmediate);
  expect(await counted()).toBe(String(HELD));
  const missing = (await status()).lines.find(({ subject }) => subject === 'Programs');
  expect(missing).toMatchObject({ severity: 'SEVERITY_OK', details: [] });

  daemon.cli('migrate');
  expect(await phase()).toBe('PHASE_MIGRATING');
  expect(hooks()).toEqual([...requestHooks, ...answerHooks].sort());
  for (const result of [await fromPod(), await fromOutside()]) expect(result.failures).toEqual({});
  expect(await held.ask()).toEqual(servers);
});

test('after a drain, uninstall is refused while flows are open, unless it is forced', async () => {
  await start();
  const held = await OpenConnections.start(lab, 'outside', { address: nodeAddresses.IPv4, port: NODE_PORT, count: HELD });
  const servers = await held.ask();
  daemon.cli('drain');
  expect(uninstall('--dry-run')).toContain(`${HELD} flows are open (TCP ${HELD}, UDP 0, SCTP 0): the uninstall will be refused`);
  await daemon.process?.kill();
  expect(() => uninstall()).toThrow(`${HELD} flows are open (TCP ${HELD}, UDP 0, SCTP 0), and would break`);
  expect(await held.ask()).toEqual(servers);
  await held.close();
  expect(uninstall('--dry-run')).not.toContain('open');
  expect(uninstall()).toContain('removed map');

  await start();
  const others = await OpenConnections.start(lab, 'outside', { address: nodeAddresses.IPv4, port: NODE_PORT, count: HELD });
  expect(await others.ask()).toHaveLength(HELD);
  daemon.cli('drain');
  await daemon.process?.kill();
  expect(uninstall('--force')).toContain('removed map');
});

test('a node that starts to serve 2,000 Services refuses no connection that rules of netfilter serve until then', async () => {
  const many = Array.from({ length: 2000 }, (_, n) => {
    const at = { IPv4: `10.96.${100 + Math.floor(n / 250)}.${1 + (n % 250)}`, IPv6: `fd00:96::1:${n + 1}` };
    return [service(`many${n}`, at), ...slices(`many${n}`, [1])];
  });
  // The last Service in the order of the names, so that it is served last.
  const last = { IPv4: '10.96.200.1', IPv6: 'fd00:96::200:1' };
  daemon.write('many.yaml', ...many.flat(), service('zz', last), ...slices('zz', [1]));
  lab.run(
    'node',
    ...[
      'nft',
      `table ip before { chain services { type nat hook prerouting priority -100; ip daddr ${last.IPv4} tcp dport 80 dnat to 10.244.1.1:8080; }; }`,
    ],
  );
  const client = await Client.start(lab, 'pod9');
  const task = { protocol: 'tcp', address: last.IPv4, port: 80, parallel: 4, timeoutMs: 5000 } as const;
  const starting = new AbortController();
  const failures: Record<string, number> = {};
  const asking = (async () => {
    while (!starting.signal.aborted) Object.assign(failures, (await client.ask({ ...task, count: 100 })).failures);
  })();
  await daemon.start({ hasSocketLb: false, isSmall: false, extra: ['--service-cidr', '10.96.0.0/16'] });
  lab.run('node', 'nft', 'delete', 'table', 'ip', 'before');
  starting.abort();
  await asking;
  expect(failures).toEqual({});
  expect((await client.ask({ ...task, count: 100 })).failures).toEqual({});
});
