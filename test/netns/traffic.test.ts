// SPDX-License-Identifier: Apache-2.0
// Tests load balancing with real sockets, for every kind of client, both families and both protocols, with and without socket
// translation. The three backends count requests. Every request must be answered, and the share of each backend must be within 15 %
// of a third.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { askStatus } from '../../daemon/cli/client.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';

const REQUESTS = 3000;
const backends = [1, 2, 3];

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  let lab: Lab;
  let daemon: Daemon;
  let servers: Server[];

  beforeAll(async () => {
    lab = new Lab();
    for (const number of [...backends, 9]) lab.addPod(number);
    servers = await Promise.all(backends.map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })));
    daemon = new Daemon(lab);
    daemon.write('web.yaml', service('web'), ...slices('web', backends));
    await daemon.start({ hasSocketLb });
  });

  afterAll(() => lab.close());

  const clients = [
    { client: 'the client pod', netns: 'pod9' },
    { client: 'the node itself', netns: 'node' },
    { client: 'a backend pod of the Service itself', netns: 'pod1' },
  ];
  const cases = clients.flatMap((client) =>
    (['IPv4', 'IPv6'] as const).flatMap((family) => (['tcp', 'udp'] as const).map((protocol) => ({ ...client, family, protocol }))),
  );

  test.for(cases)('$client reaches all backends equally often: $family $protocol', async ({ netns, family, protocol }) => {
    const client = await Client.start(lab, netns);
    const before = await Promise.all(servers.map((server) => server.counts()));
    const port = protocol === 'tcp' ? 80 : 53;
    const result = await client.ask({ protocol, address: vips[family], port, count: REQUESTS });
    const after = await Promise.all(servers.map((server) => server.counts()));
    const counted = after.map((counts, i) => counts[protocol] - (before[i]?.[protocol] ?? 0));

    expect(result.failures).toEqual({});
    // The client sees the VIP: from getpeername() for TCP, as the source of the datagram for UDP.
    expect(result.peers).toEqual({ [`${vips[family]}:${port}`]: REQUESTS });
    expect(counted.reduce((sum, count) => sum + count)).toBe(REQUESTS);
    for (const count of counted) {
      expect(count).toBeGreaterThan((REQUESTS / 3) * 0.85);
      expect(count).toBeLessThan((REQUESTS / 3) * 1.15);
    }
    await client.process.kill();
  });

  test.for((['IPv4', 'IPv6'] as const).map((family) => ({ family })))(
    'a connected UDP socket sees only the VIP: $family',
    async ({ family }) => {
      const client = await Client.start(lab, 'pod9');
      const result = await client.ask({ protocol: 'udp', address: vips[family], port: 53, count: 300, isConnected: true });
      expect(result.failures).toEqual({});
      expect(result.peers).toEqual({ [`${vips[family]}:53`]: 300 });
      await client.process.kill();
    },
  );

  test('pods keep their source address', async () => {
    const client = await Client.start(lab, 'pod9');
    await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 30 });
    const counts = await Promise.all(servers.map((server) => server.counts()));
    const sources = new Set(counts.flatMap((each) => Object.keys(each.clients)));
    expect(sources).toContain('10.244.1.9');
    expect([...sources].filter((source) => source.startsWith('169.254') || source.startsWith('10.0.0.254'))).toEqual([]);
    await client.process.kill();
  });

  test('an IPv6 socket reaches an IPv4 VIP', async () => {
    const client = await Client.start(lab, 'pod9');
    const result = await client.ask({ protocol: 'tcp', address: `::ffff:${vips.IPv4}`, port: 80, count: 30 });
    expect(result.failures).toEqual({});
    await client.process.kill();
  });

  test('the status is in sync and reports no drops except of ICMP redirects, which the node sends to a pod that reaches itself', async () => {
    expect(daemon.cli('status')).toMatch(/Ready: +Ok/);
    const { drops } = await askStatus({ socket: daemon.socket, timeoutMs: 10_000 });
    expect(drops.map(({ reason }) => reason).filter((reason) => reason !== 'REDIRECT')).toEqual([]);
  });
});
