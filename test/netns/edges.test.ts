// SPDX-License-Identifier: Apache-2.0
// Special cases of traffic: Services without backends, closed ports, backends on other nodes and on the address of the node,
// clients outside the cluster, and backends that are removed while traffic flows.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses, podAddresses, remoteAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { repeatedSyns } from '../support/lab/retransmissions.ts';

const families = ['IPv4', 'IPv6'] as const;
const deadVips = { IPv4: '10.96.0.66', IPv6: 'fd00:96::66' };
const remoteVips = { IPv4: '10.96.0.77', IPv6: 'fd00:96::77' };
const mixedVips = { IPv4: '10.96.0.87', IPv6: 'fd00:96::87' };
const hostVips = { IPv4: '10.96.0.88', IPv6: 'fd00:96::88' };

describe.each([{ hasSocketLb: true }, { hasSocketLb: false }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  let lab: Lab;
  let daemon: Daemon;
  let pod: Client;
  let node: Client;

  beforeAll(async () => {
    lab = new Lab();
    for (const number of [1, 2, 9]) lab.addPod(number);
    lab.addRemotePod();
    await Promise.all([
      ...[1, 2].map((number) => Server.start(lab, { netns: `pod${number}`, name: `pod${number}` })),
      Server.start(lab, { netns: 'remote', name: 'remote' }),
      Server.start(lab, { netns: 'node', name: 'host' }),
    ]);
    daemon = new Daemon(lab);
    daemon.write('dead.yaml', service('dead', deadVips), ...slices('dead', []));
    daemon.write('remote.yaml', service('remote', remoteVips), ...slices('remote', [remoteAddresses]));
    daemon.write('host.yaml', service('host', hostVips), ...slices('host', [nodeAddresses]));
    daemon.write('mixed.yaml', service('mixed', mixedVips), ...slices('mixed', [nodeAddresses, remoteAddresses, 1]));
    daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
    await daemon.start({ hasSocketLb });
    [pod, node] = await Promise.all([Client.start(lab, 'pod9'), Client.start(lab, 'node')]);
  });

  afterAll(() => lab.close());

  describe.each(families.map((family) => ({ family })))('$family', ({ family }) => {
    test.for([{ who: 'a pod' }, { who: 'the node' }])(
      'a TCP connection of $who to a Service without backends is refused at once',
      async ({ who }) => {
        const client = who === 'a pod' ? pod : node;
        const netns = who === 'a pod' ? 'pod9' : 'node';
        const before = repeatedSyns(lab, netns);
        const result = await client.ask({ protocol: 'tcp', address: deadVips[family], port: 80, count: 50 });
        expect(result.failures).toEqual({ ECONNREFUSED: 50 });
        // No SYN was retransmitted, so every connection was refused at once.
        expect(repeatedSyns(lab, netns)).toBe(before);
      },
    );

    test.for([{ who: 'a pod' }, { who: 'the node' }])(
      'a connected UDP socket of $who to a Service without backends gets port unreachable',
      async ({ who }) => {
        const client = who === 'a pod' ? pod : node;
        const result = await client.ask({ protocol: 'udp', address: deadVips[family], port: 53, count: 20, isConnected: true });
        expect(result.failures).toEqual({ ECONNREFUSED: 20 });
      },
    );

    test('an unconnected sendto() to a Service without backends does not fail and gets no answer', async () => {
      const result = await pod.ask({ protocol: 'udp', address: deadVips[family], port: 53, count: 3, timeoutMs: 300 });
      expect(result.failures).toEqual({ timeout: 3 });
    });

    test('a backend on another node answers', async () => {
      for (const client of [pod, node]) {
        for (const [protocol, port] of [
          ['tcp', 80],
          ['udp', 53],
        ] as const) {
          const result = await client.ask({ protocol, address: remoteVips[family], port, count: 100 });
          expect(result).toMatchObject({ failures: {}, answers: { remote: 100 }, peers: { [`${remoteVips[family]}:${port}`]: 100 } });
        }
      }
    });

    test('a backend on the address of the node answers', async () => {
      for (const [protocol, port] of [
        ['tcp', 80],
        ['udp', 53],
      ] as const) {
        const result = await pod.ask({ protocol, address: hostVips[family], port, count: 100 });
        expect(result).toMatchObject({ failures: {}, answers: { host: 100 }, peers: { [`${hostVips[family]}:${port}`]: 100 } });
      }
    });

    test('connected UDP sockets of the node reach the backends of a Service evenly, one of which is on the node itself', async () => {
      const count = 300;
      const result = await node.ask({ protocol: 'udp', address: mixedVips[family], port: 53, count, isConnected: true });
      // Without socket translation a backend on the node itself cannot be reached, so the other backends get its share.
      const reached = hasSocketLb ? ['host', 'pod1', 'remote'] : ['pod1', 'remote'];
      expect(result).toMatchObject({ failures: {}, peers: { [`${mixedVips[family]}:53`]: count } });
      expect(Object.keys(result.answers).sort()).toEqual(reached);
      for (const answers of Object.values(result.answers)) expect(answers).toBeGreaterThan(count / reached.length / 2);
    });

    test('a client outside the cluster reaches a pod through the ClusterIP', async () => {
      const outside = await Client.start(lab, 'outside');
      for (const [protocol, port] of [
        ['tcp', 80],
        ['udp', 53],
      ] as const) {
        const result = await outside.ask({ protocol, address: vips[family], port, count: 50 });
        expect(result).toMatchObject({ failures: {}, peers: { [`${vips[family]}:${port}`]: 50 } });
      }
      await outside.process.kill();
    });
  });

  test('a closed port of a backend refuses the client', async () => {
    const lost = { IPv4: '10.96.0.99', IPv6: 'fd00:96::99' };
    const closed = slices('closed', [1]).map((slice) => ({
      ...slice,
      ports: [
        { name: 'web', port: 9, protocol: 'TCP' },
        { name: 'dns', port: 9, protocol: 'UDP' },
      ],
    }));
    daemon.write('closed.yaml', service('closed', lost), ...closed);
    await daemon.settled((services) => services.some((each) => each.key.startsWith('default/closed')));
    for (const family of families) {
      // The ICMP error of the backend is translated back, so a connected UDP socket receives it.
      const udp = await pod.ask({ protocol: 'udp', address: lost[family], port: 53, count: 5, isConnected: true });
      expect(udp.failures).toEqual({ ECONNREFUSED: 5 });
      const tcp = await pod.ask({ protocol: 'tcp', address: lost[family], port: 80, count: 5 });
      expect(tcp.failures).toEqual({ ECONNREFUSED: 5 });
    }
  });

  // With socket translation, the direct connection and the ended flow would have the same addresses and ports in the client's stack.
  const tcOnly = hasSocketLb ? undefined : test;
  tcOnly?.('a direct connection to a backend from the source port of an ended flow is not treated as that flow', async () => {
    for (const family of families) {
      // These ports are outside the range of ephemeral ports.
      for (let localPort = 20_000; localPort < 20_020; localPort += 1) {
        const task = { protocol: 'tcp', port: 80, count: 1, localPort } as const;
        const through = await pod.ask({ ...task, address: vips[family] });
        expect(through.failures).toEqual({});
        const backend = Object.keys(through.answers)[0] === 'pod1' ? 1 : 2;
        const direct = await pod.ask({ ...task, address: podAddresses(backend)[family], port: 8080 });
        expect(direct.failures).toEqual({});
      }
    }
  });

  describe('backends that change', () => {
    beforeEach(async () => {
      daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
      await daemon.settled((services) =>
        services.filter((each) => each.key.startsWith('default/web')).every((each) => each.backends?.length === 2),
      );
    });

    test('all new requests go to the only backend after a scale to one, and to both backends after a scale to two', async () => {
      daemon.write('web.yaml', service('web'), ...slices('web', [2]));
      await daemon.settled((services) =>
        services.filter((each) => each.key.startsWith('default/web')).every((each) => each.backends?.length === 1),
      );
      const one = await pod.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 200 });
      expect(one).toMatchObject({ failures: {}, answers: { pod2: 200 } });
      daemon.write('web.yaml', service('web'), ...slices('web', [1, 2]));
      await daemon.settled((services) =>
        services.filter((each) => each.key.startsWith('default/web')).every((each) => each.backends?.length === 2),
      );
      const two = await pod.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 200 });
      expect(two.failures).toEqual({});
      expect(Object.keys(two.answers).sort()).toEqual(['pod1', 'pod2']);
    });
  });
});

test('without socket translation, traffic of a node process to a backend on the node address is dropped with a reason', async () => {
  const lab = new Lab();
  try {
    await Server.start(lab, { netns: 'node', name: 'host' });
    const daemon = new Daemon(lab);
    daemon.write('host.yaml', service('host', hostVips), ...slices('host', [nodeAddresses]));
    await daemon.start({ hasSocketLb: false });
    const node = await Client.start(lab, 'node');
    const result = await node.ask({ protocol: 'udp', address: hostVips.IPv4, port: 53, count: 2, timeoutMs: 200 });
    expect(result.failures).toEqual({ timeout: 2 });
    expect(daemon.cli('status')).toContain('NODE_TO_SELF');
  } finally {
    await lab.close();
  }
});
