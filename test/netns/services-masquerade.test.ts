// SPDX-License-Identifier: Apache-2.0
// Masqueraded flows never use a source port that the host uses. When no port is free, new flows are dropped and counted; existing flows
// and flows to other backends continue.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cluster } from '../support/lab/cluster.ts';
import { service, slices } from '../support/lab/daemon.ts';
import { labNodes } from '../support/lab/lab.ts';
import { OpenSocket, Server } from '../support/lab/peers.ts';
import { Witness } from '../support/lab/witness.ts';

const families = ['IPv4', 'IPv6'] as const;
const protocols = ['tcp', 'udp'] as const;
const everyWay = families.flatMap((family) => protocols.map((protocol) => ({ family, protocol })));
const nodeA = labNodes['node-a'].addresses;
const vip = (n: number): { IPv4: string; IPv6: string } => ({ IPv4: `10.96.4.${n}`, IPv6: `fd00:96::4:${n}` });
const nodePort = (n: number): object =>
  service(`port-${n}`, vip(n), { nodePorts: { web: 30_000 + n, dns: 31_000 + n }, spec: { type: 'NodePort' } });
const portOf = (protocol: 'tcp' | 'udp', n: number): number => (protocol === 'tcp' ? 30_000 + n : 31_000 + n);

describe('ten source ports, five of which the host uses', () => {
  const HELD = [20_000, 20_001, 20_002, 20_003, 20_004];
  const FREE = 5;
  let cluster: Cluster;
  let host: Server[];

  beforeAll(async () => {
    cluster = await Cluster.start({
      ...{ pods: [1, 2, 101], servers: [1, 2, 101], hasSocketLb: true, extra: ['--snat-ports', '20000-20009'] },
      objects: [1, 2, 101].flatMap((pod) => [nodePort(pod), ...slices(`port-${pod}`, [pod])]),
    });
    host = await Promise.all(HELD.map((port) => Server.start(cluster.lab, { netns: 'node', name: `host${port}`, tcp: port, udp: port })));
  });

  afterAll(() => cluster.close());

  test.for(everyWay)(
    'new flows get the free source ports, and are dropped when no port is free: $family $protocol',
    async ({ family, protocol }) => {
      const held = await OpenSocket.start(cluster.lab, 'client', { kind: protocol, address: nodeA[family], port: portOf(protocol, 1) });
      expect(await held.ask()).toBe('pod1');
      const witness = new Witness(cluster.lab, 'pod1', {
        ofHost: `${protocol} sport 20000-20004`,
        free: `${protocol} sport 20005-20009`,
        other: `${protocol} dport { 8080, 5353 } ${protocol} sport != 20000-20009`,
      });
      const task = { protocol, address: nodeA[family], port: portOf(protocol, 1) };
      const flood = await cluster.ask('client', { ...task, count: 150, parallel: 150, timeoutMs: 900 });
      expect(flood.answers).toEqual({ pod1: FREE - 1 });
      expect(flood.failures).toEqual({ timeout: 150 - (FREE - 1) });
      expect(Object.keys(witness.take())).toEqual(['free']);
      witness.close();

      expect(await cluster.drops(cluster.daemon)).toEqual(['PORT_EXHAUSTED']);
      // An existing flow keeps its port, the sockets of the host still work, and each backend has its own set of ports.
      expect(await held.ask()).toBe('pod1');
      for (const port of HELD) {
        const { answers } = await cluster.ask('client', { protocol, address: nodeA[family], port, count: 2 });
        expect(answers).toEqual({ [`host${port}`]: 2 });
      }
      for (const pod of [2, 101]) {
        const { answers } = await cluster.ask('client', { ...task, port: portOf(protocol, pod), count: 1 });
        expect(answers).toEqual({ [`pod${pod}`]: 1 });
      }
      await held.process.kill();
    },
  );

  test('the status reports the drops, and no packet of a Service reached the sockets of the host', async () => {
    expect(cluster.daemon.cli('status')).toMatch(/PORT_EXHAUSTED: +\d+ packets/);
    // The tests above sent two requests to each server for each family and protocol.
    for (const server of host) {
      const { tcp, udp } = await server.counts();
      expect({ tcp, udp }).toEqual({ tcp: 4, udp: 4 });
    }
  });
});
