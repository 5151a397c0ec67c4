// SPDX-License-Identifier: Apache-2.0
// Without socket translation, traffic of pods through a Service must create no conntrack entry and no nftables rule. The positive
// control: conntrack is active on the node, because a rule uses it, and direct traffic of the same pods does create entries.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, podAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';

let lab: Lab;
let client: Client;

beforeAll(async () => {
  lab = new Lab();
  for (const number of [1, 2, 9]) lab.addPod(number);
  await Promise.all([1, 2].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
  lab.run(
    'node',
    'nft',
    'add table inet watch; add chain inet watch forwarded { type filter hook forward priority 0; }; add rule inet watch forwarded ct state new counter',
  );
  const daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
  await daemon.start({ hasSocketLb: false });
  client = await Client.start(lab, 'pod9');
});

afterAll(() => lab.close());

const entries = (): number => Number(lab.sysctl('node', 'net.netfilter.nf_conntrack_count'));
/** The ruleset without its counters, which direct traffic changes. */
const ruleset = (): string => lab.run('node', 'nft', 'list', 'ruleset').replaceAll(/packets \d+ bytes \d+/g, '');

test('Service traffic of a pod changes neither conntrack nor the ruleset', async () => {
  const before = { entries: entries(), ruleset: ruleset() };
  for (const address of [vips.IPv4, vips.IPv6]) {
    for (const [protocol, port] of [
      ['tcp', 80],
      ['udp', 53],
    ] as const) {
      const result = await client.ask({ protocol, address, port, count: 300 });
      expect(result.failures).toEqual({});
    }
  }
  expect(entries()).toBe(before.entries);
  expect(ruleset()).toBe(before.ruleset);
});

test('a pod that reaches itself through its Service creates no conntrack entry', async () => {
  const own = await Client.start(lab, 'pod1');
  const before = entries();
  const result = await own.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 100 });
  expect(Object.keys(result.answers).sort()).toEqual(['pod1', 'pod2']);
  expect(entries()).toBe(before);
});

test('direct traffic of the same pod creates conntrack entries, so the check detects them', async () => {
  const before = entries();
  const result = await client.ask({ protocol: 'tcp', address: podAddresses(1).IPv4, port: 8080, count: 20 });
  expect(result.failures).toEqual({});
  expect(entries()).toBeGreaterThanOrEqual(before + 20);
});
