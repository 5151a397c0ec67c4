// SPDX-License-Identifier: Apache-2.0
// The two directions in which Sluice and kube-proxy take over a node from each other, one packet at a time. While Sluice migrates, a
// connection that kube-proxy has opened passes untouched. While it drains, it serves the flows that it has, and everything else passes.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Family } from '../../daemon/model/address.ts';
import type { Backend, DesiredPort, Frontend } from '../../daemon/model/frontend.ts';
import { clang, clangFlags } from '../../datapath/build/clang.ts';
import { backendRow, frontendRow } from '../support/builders.ts';
import { Bpffs, devices, type Loaded, Loaded as LoadedDatapath, objectsPath, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { NetfilterConnections } from './netfilter-connection.ts';
import { build, type Packet, read, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, tcpFlags } from './packet.ts';

const { FIN, SYN, RST, ACK } = tcpFlags;
/** Longer than the time after which a UDP flow is over, in units of flow_now(). */
const IDLE = 40;
const hooks = { tc_pod_in: 'lxc1', tc_pod_out: 'lxc2', tc_uplink_in: 'eth0', tc_uplink_out: 'eth0' } as const;
type Hook = keyof typeof hooks;

let loaded: Loaded;
const connections = new NetfilterConnections();

loadForFile((it) => {
  loaded = it;
});

afterEach(() => connections.close());

describe.each(['IPv4', 'IPv6'] as const)('%s', (family: Family) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const node = four ? '10.0.0.1' : 'fd00:10::1';
  const outside = (n: number): string => (four ? `10.0.0.${n}` : `fd00:10::${n}`);
  const [client, remote] = [outside(77), outside(88)];
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);

  const port = (name: string, frontend: Frontend, backends: readonly Backend[]): DesiredPort => ({
    ...{ key: `default/${name}:/${frontend.protocol}/${family}`, namespace: 'default', name, portName: '', protocol: frontend.protocol },
    ...{ family, frontends: [frontend], backends, affinitySeconds: 0, sourceRanges: [] },
  });
  type Protocol = Frontend['protocol'];
  const clusterIP = (protocol: Protocol = 'TCP'): Frontend => frontendRow(vip, { protocol });
  const nodePort = (protocol: Protocol = 'TCP'): Frontend => frontendRow(node, { port: 30_080, protocol, type: 'NodePort' });
  /** Each test has another one, because nf_conntrack remembers the connections of earlier tests. */
  let clientPort = 40_000;
  /** Three backends, so that a selection anew is not the old one by chance in all the tries of a test. */
  const backends = [1, 2, 3].map((n) => backendRow(pod(n)));
  const packetTo = ({ address, port: destinationPort, protocol }: Frontend, fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol, source: client, destination: address, sourcePort: clientPort, destinationPort, flags: SYN },
    ...fields,
  });
  const answerTo = (sent: Packet, fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol: sent.protocol, source: sent.destination, destination: sent.source, flags: SYN | ACK },
    ...{ sourcePort: sent.destinationPort ?? 0, destinationPort: sent.sourcePort ?? 0 },
    ...fields,
  });
  const send = (packet: Packet, hook: Hook = 'tc_uplink_in', to = loaded) =>
    to.forward(hook, build(packet), { ifindex: devices[hooks[hook]] });
  const translated = (packet: Packet, hook?: Hook): Packet => {
    const result = send(packet, hook);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    return read(result.packet);
  };
  const passes = (packet: Packet, hook?: Hook, to = loaded): void => {
    const { verdict, packet: after } = send(packet, hook, to);
    expect({ verdict, packet: read(after) }).toEqual({ verdict: TC_ACT_UNSPEC, packet: read(build(packet)) });
  };
  const rows = (to = loaded): number => [...to.datapath.map(four ? 'ct4' : 'ct6').entries()].length;
  const drops = (reason: string): number => loaded.drops()[reason] ?? 0;
  const clusterRange = { first: vip, last: vip };
  const host = { ...plainHost, clusterRange: { [family]: clusterRange } };
  const ranges = [
    { set: 'node', cidr: `${node}/${four ? 32 : 128}` },
    { set: 'clusterIP', cidr: `${vip}/${four ? 32 : 128}` },
  ] as const;

  beforeEach(() => {
    clientPort += 1;
    loaded.forgetFlows();
    loaded.applyHost(host, ranges);
    const exhausted = loaded.datapath.map('lb_exhausted');
    for (const [key, value] of [...exhausted.entries()]) exhausted.set(key, new Uint8Array(value.length));
  });

  describe('migrating', () => {
    beforeEach(() => {
      loaded.datapath.phase = 'migrating';
    });

    const frontends = [
      { name: 'a ClusterIP', frontend: clusterIP(), isServed: true },
      { name: 'a NodePort', frontend: nodePort(), isServed: true },
      { name: 'a port of a ClusterIP that the Service no longer has', frontend: clusterIP(), isServed: false },
    ];
    test.for(frontends)('a connection that netfilter has translated passes untouched: to $name', async ({ frontend, isServed }) => {
      loaded.apply(isServed ? [port('web', frontend, backends)] : []);
      const to = { client, clientPort, destination: frontend.address, destinationPort: frontend.port };
      await connections.open({ ...to, server: remote, serverPort: 8080 });
      for (const flags of [ACK, FIN | ACK, RST]) passes(packetTo(frontend, { flags }));
      expect(rows()).toBe(0);
      // Another connection is a flow of ours that was lost.
      expect(send(packetTo(frontend, { flags: ACK, sourcePort: 1 })).verdict).toBe(TC_ACT_REDIRECT);
      loaded.datapath.phase = 'serving';
      expect(send(packetTo(frontend, { flags: ACK })).verdict).toBe(TC_ACT_REDIRECT);
    });

    test('a connection that netfilter does not know is adopted by the hash, or refused if it must be masqueraded', () => {
      loaded.apply([port('web', clusterIP(), backends), port('out', nodePort(), backends)]);
      for (let sourcePort = 1; sourcePort <= 20; sourcePort += 1) {
        const opened = translated(packetTo(clusterIP(), { sourcePort }));
        loaded.forgetFlows();
        expect(translated(packetTo(clusterIP(), { sourcePort, flags: ACK })).destination).toBe(opened.destination);
      }
      const before = drops('NO_FLOW');
      expect(translated(packetTo(nodePort(), { flags: ACK, acknowledge: 77 }))).toMatchObject({ flags: RST, sequence: 77, source: node });
      expect(drops('NO_FLOW')).toBe(before + 1);
    });

    test('a SYN opens a flow, even if netfilter has a connection with the same tuple, and its flow goes on', async () => {
      loaded.apply([port('web', nodePort(), backends)]);
      await connections.open({ client, clientPort, destination: node, destinationPort: 30_080, server: remote, serverPort: 8080 });
      const { destination } = translated(packetTo(nodePort()));
      expect(translated(packetTo(nodePort(), { flags: ACK })).destination).toBe(destination);
    });

    test('a UDP packet opens a flow', () => {
      loaded.apply([port('dns', nodePort('UDP'), backends)]);
      translated(packetTo(nodePort('UDP')));
    });

    test('an answer to a masqueraded connection of kube-proxy passes, even if its source port is a NodePort', async () => {
      loaded.apply([port('web', nodePort(), backends)]);
      const to = { client, clientPort, destination: remote, destinationPort: 8080 };
      await connections.open({ ...to, source: node, sourcePort: 30_080 });
      const answer = answerTo(packetTo(nodePort()), { source: remote, sourcePort: 8080, destination: node, destinationPort: 30_080 });
      for (const flags of [ACK, SYN | ACK, RST]) passes({ ...answer, flags });
    });

    test('the source port of a connection that netfilter masquerades is not given to a flow with the same backend', async () => {
      loaded.apply([port('web', nodePort(), [backendRow(remote)])]);
      loaded.maps.host.set(0, { ...loaded.maps.host.get(0), snatFirst: [2000, 0], snatCount: [1, 0] });
      const to = { client, clientPort, destination: remote, destinationPort: 8080 };
      await connections.open({ ...to, source: node, sourcePort: 2000 });
      const before = drops('PORT_EXHAUSTED');
      expect(send(packetTo(nodePort())).verdict).toBe(TC_ACT_SHOT);
      expect(drops('PORT_EXHAUSTED')).toBe(before + 1);
      loaded.datapath.phase = 'serving';
      expect(translated(packetTo(nodePort()))).toMatchObject({ source: node, sourcePort: 2000 });
    });
  });

  describe('draining', () => {
    const protocols = ['TCP', 'UDP', 'SCTP'] as const;
    beforeEach(() => {
      loaded.datapath.phase = 'serving';
    });

    test.for(protocols.flatMap((protocol) => [clusterIP(protocol), nodePort(protocol)]))(
      'a packet without a flow passes: $protocol to $address',
      (frontend) => {
        for (const isServed of [true, false]) {
          loaded.apply([port('web', frontend, isServed ? backends : [])]);
          loaded.datapath.phase = 'draining';
          for (const flags of [SYN, ACK])
            for (const hook of ['tc_uplink_in', 'tc_pod_in'] as const) passes(packetTo(frontend, { flags }), hook);
          passes(packetTo(frontend, { source: node }), 'tc_uplink_out');
        }
        loaded.apply([]);
        passes(packetTo(frontend));
        expect(rows()).toBe(0);
      },
    );

    test('an open connection goes on in both directions until it is closed, and then its tuple is free for kube-proxy', () => {
      loaded.apply([port('web', nodePort(), backends)]);
      const opened = translated(packetTo(nodePort()));
      loaded.datapath.phase = 'draining';
      const hook = 'tc_pod_in';
      expect(translated(answerTo(opened), hook)).toMatchObject({ source: node, sourcePort: 30_080, destination: client });
      expect(translated(packetTo(nodePort(), { flags: ACK }))).toMatchObject({ source: node, sourcePort: opened.sourcePort });
      // A retransmitted SYN belongs to the connection.
      expect(translated(packetTo(nodePort())).sourcePort).toBe(opened.sourcePort);
      translated(packetTo(nodePort(), { flags: FIN | ACK }));
      translated(answerTo(opened, { flags: FIN | ACK }), hook);
      translated(packetTo(nodePort(), { flags: ACK }));
      expect(rows()).toBe(3);
      passes(packetTo(nodePort()));
      expect(rows()).toBe(0);
      passes(packetTo(nodePort(), { flags: ACK }));
      passes(answerTo(opened, { flags: ACK }), hook);
    });

    test('a UDP flow goes on until both sides were silent for two minutes, or its backend is gone', () => {
      const dns = port('dns', nodePort('UDP'), [backendRow(pod(2))]);
      loaded.apply([dns]);
      const packet = packetTo(nodePort('UDP'));
      const opened = translated(packet);
      loaded.datapath.phase = 'draining';
      expect(translated(packet).sourcePort).toBe(opened.sourcePort);
      loaded.ageFlows(IDLE);
      passes(packet);
      expect(rows()).toBe(0);
      loaded.datapath.phase = 'serving';
      translated(packet);
      loaded.datapath.phase = 'draining';
      loaded.apply([{ ...dns, backends: [backendRow(pod(3))] }]);
      passes(packet);
      passes(packet);
      expect(rows()).toBe(0);
    });
  });

  describe('on a kernel without a look-up in nf_conntrack', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-no-conntrack-'));
    let bpffs: Bpffs;
    let without: Loaded;
    beforeEach(() => {
      for (const name of ['sock', 'layout']) copyFileSync(join(objectsPath, `${name}.bpf.o`), join(directory, `${name}.bpf.o`));
      const absent = ['bpf_skb_ct_lookup', 'bpf_ct_release', 'bpf_ct_opts'].map((name) => `-D${name}=absent_${name}`);
      for (const name of ['tc_pod', 'tc_uplink'])
        execFileSync(clang, [...clangFlags, ...absent, '-c', `datapath/${name}.bpf.c`, '-o', join(directory, `${name}.bpf.o`)]);
      bpffs = new Bpffs();
      without = new LoadedDatapath(bpffs, undefined, directory);
    });
    afterEach(() => {
      without.datapath.close();
      bpffs.close();
      rmSync(directory, { recursive: true });
    });

    test('every open connection without a flow passes until the migration is done, and flows are served', () => {
      without.applyHost(host, ranges);
      without.apply([port('web', clusterIP(), backends), port('out', nodePort(), backends)]);
      expect(without.datapath.phase).toBe('migrating');
      for (const frontend of [clusterIP(), nodePort()]) {
        passes(packetTo(frontend, { flags: ACK }), 'tc_uplink_in', without);
        expect(rows(without)).toBe(0);
        for (const flags of [SYN, ACK]) expect(send(packetTo(frontend, { flags }), 'tc_uplink_in', without).verdict).toBe(TC_ACT_REDIRECT);
        without.forgetFlows();
      }
      without.datapath.phase = 'serving';
      expect(send(packetTo(clusterIP(), { flags: ACK }), 'tc_uplink_in', without).verdict).toBe(TC_ACT_REDIRECT);
    });
  });
});
