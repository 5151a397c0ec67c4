// SPDX-License-Identifier: Apache-2.0
// No netfilter: with tc only, what pods send through a Service makes no conntrack entry and no rule. The positive control:
// conntrack is live in the node (a rule asks for it), and plain traffic of the same pods does make entries.
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
/** The ruleset without the counters, which plain traffic moves. */
const ruleset = (): string => lab.run('node', 'nft', 'list', 'ruleset').replaceAll(/packets \d+ bytes \d+/g, '');

test('pod clients leave conntrack and rules as they were', async () => {
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

test('a pod that reaches itself through its Service leaves none either', async () => {
  const own = await Client.start(lab, 'pod1');
  const before = entries();
  const result = await own.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 100 });
  expect(Object.keys(result.answers).sort()).toEqual(['pod1', 'pod2']);
  expect(entries()).toBe(before);
});

test('positive control: plain traffic of the same pod makes entries', async () => {
  const before = entries();
  const result = await client.ask({ protocol: 'tcp', address: podAddresses(1).IPv4, port: 8080, count: 20 });
  expect(result.failures).toEqual({});
  expect(entries()).toBeGreaterThanOrEqual(before + 20);
});
