// SPDX-License-Identifier: Apache-2.0
// A firewall of the node whose policy in the forward hook is drop: preflight and status name it with a command that mends it, and with
// --accept-forwarded the daemon keeps one rule, which `sluice uninstall` removes. test/topologies/forward-drop.test.ts compares the traffic
// with kube-proxy's, test/kernel/firewall.test.ts tests the rules.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Daemon, nodes, service, vips } from '../support/lab/daemon.ts';
import { labNodes, Lab, nodeAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';

const NODE_PORT = 30_001;

let lab: Lab;
let daemon: Daemon;
let client: Client;

/** A Service whose backend is a process of the other node, so that requests of clients are forwarded and masqueraded. */
beforeEach(async () => {
  lab = new Lab();
  lab.addNode();
  lab.addPod(9);
  lab.addClient();
  daemon = new Daemon(lab);
  const spec = { type: 'NodePort' };
  const slice = (['IPv4', 'IPv6'] as const).map((family) => ({
    ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: family },
    metadata: { name: `web-${family.toLowerCase()}`, namespace: 'default', labels: { 'kubernetes.io/service-name': 'web' } },
    ports: [{ name: 'web', port: 8080, protocol: 'TCP' }],
    endpoints: [{ addresses: [labNodes['node-b'].addresses[family]], conditions: { ready: true }, nodeName: 'node-b' }],
  }));
  daemon.write('web.yaml', ...nodes(), service('web', vips, { nodePorts: { web: NODE_PORT, dns: NODE_PORT + 1 }, spec }), ...slice);
  await Server.start(lab, { netns: 'node-b', name: 'node-b' });
  client = await Client.start(lab, 'client');
  closeFirewall();
});

afterEach(() => lab.close());

const nft = (...words: readonly string[]): string => lab.run('node', 'nft', words.join(' '));

function closeFirewall(): void {
  const chain = 'chain inet docker forward { type filter hook forward priority 0; policy drop; }';
  nft(`flush ruleset; add table inet docker; add ${chain}`);
}

/** The number of families whose NodePort answers. */
async function answers(): Promise<number> {
  let answered = 0;
  for (const family of ['IPv4', 'IPv6'] as const) {
    const asked = { protocol: 'tcp', address: nodeAddresses[family], port: NODE_PORT, count: 1, timeoutMs: 1000 } as const;
    const { failures } = await client.ask(asked);
    if (Object.keys(failures).length === 0) answered += 1;
  }
  return answered;
}

const pinFlags = (): string[] => ['--pin-path', join(lab.bpffs, 'sluice')];

/** The output of `sluice` in the namespace of the node, whatever its exit code is. */
function sluice(...args: readonly string[]): string {
  const command = [process.execPath, 'daemon/cli/main.ts', '--socket', daemon.socket, ...args];
  try {
    return execFileSync('nsenter', [`--net=/run/netns/${lab.netns('node')}`, ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    return (error as { stdout: string }).stdout;
  }
}

const preflight = (...flags: readonly string[]): string =>
  sluice('preflight', ...daemon.flags(false), ...flags)
    .split('\n')
    .find((line) => line.startsWith('firewall:')) ?? '';

/** Waits until the daemon has compared the rules again. */
async function until(is: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !(await is());) {
    if (Date.now() > end) throw new Error(`${what}: not within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test('a policy that drops is named with a command, and after that command NodePorts work and nothing is named', async () => {
  await daemon.start({ hasSocketLb: false, extra: ['--sync-period', '1s'] });
  expect(await answers()).toBe(0);
  const status = daemon.cli('status');
  const problem = 'the policy of the chain forward of the nftables table inet docker is drop';
  expect(status).toMatch(/^Host: +Warning/m);
  expect(status).toContain(problem);
  expect(preflight()).toMatch(new RegExp(`^firewall: +Warning +${problem}`));
  const [, command = ''] = / or run: nft (.*)$/m.exec(status) ?? [];
  nft(command.replaceAll("'", ''));
  expect(await answers()).toBe(2);
  await until(() => !daemon.cli('status').includes(problem), 'the status no longer names the chain');
  expect(daemon.cli('status')).toMatch(/^Host: +Ok/m);
  expect(preflight()).toMatch(/^firewall: +Ok/);
});

test('--accept-forwarded keeps one rule, also after the firewall was loaded again, and uninstall removes it', async () => {
  expect(preflight('--accept-forwarded')).toMatch(/^firewall: +Ok +sluiced will accept translated packets in the chain forward/);
  await daemon.start({ hasSocketLb: false, extra: ['--accept-forwarded', '--sync-period', '1s'] });
  expect(await answers()).toBe(2);
  expect(daemon.cli('status')).toMatch(/^Host: +Ok/m);
  closeFirewall();
  await until(async () => (await answers()) === 2, 'the rule is back');
  expect(daemon.cli('status')).toContain('the chain forward of the nftables table inet docker: the rule of --accept-forwarded was missing');
  await daemon.process?.kill('SIGTERM');
  expect(await answers()).toBe(2);
  const item = 'rule in the chain forward of the nftables table inet docker';
  expect(sluice('uninstall', ...pinFlags(), '--dry-run')).toContain(`would remove ${item}`);
  expect(sluice('uninstall', ...pinFlags())).toContain(`removed ${item}`);
  expect(nft('list', 'ruleset')).not.toContain('accept');
});

test('a daemon without --accept-forwarded removes the rule of an earlier one', async () => {
  await daemon.start({ hasSocketLb: false, extra: ['--accept-forwarded'] });
  expect(nft('list', 'ruleset')).toContain('accept');
  await daemon.process?.kill('SIGTERM');
  await daemon.start({ hasSocketLb: false });
  expect(nft('list', 'ruleset')).not.toContain('accept');
  expect(await answers()).toBe(0);
});
