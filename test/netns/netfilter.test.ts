// SPDX-License-Identifier: Apache-2.0
// Translated packets pass the stack of the node, so netfilter applies to them. With conntrack, each flow is an ordinary connection from the
// client to the backend: no connection has the address of the Service, and no packet is INVALID. A rule of the FORWARD hook about client
// and backend applies to every kind of frontend. Sluice itself must add no rule.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { Daemon, nodes, service, slices, vips } from '../support/lab/daemon.ts';
import { clientAddresses, Lab, nodeAddresses, podAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';

const NODE_PORT = 30_001;
const REQUESTS = 100;

let lab: Lab;
let clients: Record<'pod9' | 'client', Client>;

const nft = (...commands: readonly string[]): string => lab.run('node', 'nft', commands.join('; '));
/** Chains that drop invalid packets, and that count packets of connections whose original destination is a frontend. */
const watch = [
  'add table inet watch',
  ...['prerouting', 'forward', 'input', 'output', 'postrouting'].flatMap((hook) => [
    `add chain inet watch ${hook} { type filter hook ${hook} priority 10; }`,
    `add rule inet watch ${hook} ct state invalid counter drop comment "invalid"`,
    `add rule inet watch ${hook} ct original ip daddr ${vips.IPv4} counter comment "VIP"`,
    `add rule inet watch ${hook} ct original ip6 daddr ${vips.IPv6} counter comment "VIP"`,
    `add rule inet watch ${hook} meta l4proto { tcp, udp } ct original proto-dst { ${NODE_PORT}, ${NODE_PORT + 1} } counter comment "NodePort"`,
  ]),
  'add rule inet watch forward ct state new counter comment "new"',
];

/** Packets that the rules with this comment have counted. */
function counted(comment: string): number {
  const lines = lab.run('node', 'nft', 'list', 'table', 'inet', 'watch').split('\n');
  const rules = lines.filter((line) => line.includes(`comment "${comment}"`));
  expect(rules.length).toBeGreaterThan(0);
  return rules.reduce((sum, line) => sum + Number(/packets (\d+)/.exec(line)?.[1]), 0);
}

/** The ruleset without its counters. */
const ruleset = (): string => lab.run('node', 'nft', 'list', 'ruleset').replaceAll(/packets \d+ bytes \d+/g, '');

const ways = (['IPv4', 'IPv6'] as const).flatMap((family) =>
  (['tcp', 'udp'] as const).flatMap((protocol) =>
    (['pod9', 'client'] as const).flatMap((from) => [
      { family, protocol, from, to: 'ClusterIP', address: vips[family], port: protocol === 'tcp' ? 80 : 53 },
      { family, protocol, from, to: 'NodePort', address: nodeAddresses[family], port: NODE_PORT + (protocol === 'tcp' ? 0 : 1) },
    ]),
  ),
);

beforeAll(async () => {
  lab = new Lab();
  for (const number of [1, 2, 9]) lab.addPod(number);
  lab.addClient();
  await Promise.all([1, 2].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  nft(...watch);
  const daemon = new Daemon(lab);
  const nodePorts = { web: NODE_PORT, dns: NODE_PORT + 1 };
  daemon.write('web.yaml', ...nodes(), service('web', vips, { nodePorts, spec: { type: 'NodePort' } }), ...slices('web', [1, 2]));
  await daemon.start({ hasSocketLb: false });
  clients = { pod9: await Client.start(lab, 'pod9'), client: await Client.start(lab, 'client') };
});

afterAll(() => lab.close());

afterEach(() => nft('add table inet rules', 'delete table inet rules'));

const ask = ({ from, protocol, address, port }: (typeof ways)[number], count: number, timeoutMs = 5000) =>
  clients[from].ask({ protocol, address, port, count, timeoutMs });

test('conntrack sees connections to backends and no invalid packet, and the ruleset does not change', async () => {
  const before = { ruleset: ruleset(), new: counted('new') };
  for (const way of ways) expect((await ask(way, REQUESTS)).failures, JSON.stringify(way)).toEqual({});
  expect({ invalid: counted('invalid'), vip: counted('VIP'), nodePort: counted('NodePort') }).toEqual({ invalid: 0, vip: 0, nodePort: 0 });
  expect(ruleset()).toBe(before.ruleset);
  // The positive control: conntrack saw the connections. A few may have the ports of an earlier one, which conntrack still knows.
  expect(counted('new') - before.new).toBeGreaterThan(ways.length * REQUESTS * 0.9);
});

test('with a FORWARD chain that drops everything except packets of pods, every frontend works', async () => {
  nft(
    'add table inet rules',
    'add chain inet rules forward { type filter hook forward priority 0; policy drop; }',
    'add rule inet rules forward ct state established,related accept',
    'add rule inet rules forward ip daddr 10.244.0.0/16 accept',
    'add rule inet rules forward ip6 daddr fd00:244::/32 accept',
  );
  for (const way of ways) expect((await ask(way, 10)).failures, JSON.stringify(way)).toEqual({});
});

test('a client that the FORWARD chain denies a backend does not reach that backend through any frontend', async () => {
  const sources = (family: 'IPv4' | 'IPv6'): string => `{ ${podAddresses(9)[family]}, ${clientAddresses[family]} }`;
  nft(
    'add table inet rules',
    'add chain inet rules forward { type filter hook forward priority 0; }',
    `add rule inet rules forward ip saddr ${sources('IPv4')} ip daddr ${podAddresses(1).IPv4} drop`,
    `add rule inet rules forward ip6 saddr ${sources('IPv6')} ip6 daddr ${podAddresses(1).IPv6} drop`,
  );
  for (const way of ways) {
    const { answers, failures } = await ask(way, 12, 250);
    expect(Object.keys(answers), JSON.stringify(way)).toEqual(['pod2']);
    expect(Object.keys(failures), JSON.stringify(way)).toHaveLength(1);
  }
});
