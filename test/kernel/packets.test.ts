// SPDX-License-Identifier: Apache-2.0
// Runs packets through the real programs in the kernel, and compares the first packet of a flow with the oracle (support/oracle.ts).
// Every checksum of a result is verified. Every case runs for both IP families and for TCP and UDP.
import { beforeEach, describe, expect, test } from 'vitest';
import { trace } from '../support/oracle.ts';
import { decoded } from '../../daemon/maps/codec.ts';
import { flow4Codec, flow6Codec, FlowRow } from '../../daemon/maps/gen/layouts.ts';
import { type Family, hostPort } from '../../daemon/model/address.ts';
import type { Backend, DesiredPort } from '../../daemon/model/frontend.ts';
import { frontendRow } from '../support/builders.ts';
import { devices, type Loaded, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, ipPacket, type Packet, read, readIp, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, tcpFlags } from './packet.ts';

const { FIN, SYN, RST, ACK } = tcpFlags;

let loaded: Loaded;

loadForFile((it) => {
  loaded = it;
  loaded.applyHost(plainHost, [
    { set: 'node', cidr: '10.0.0.1/32' },
    { set: 'node', cidr: 'fd00:10::1/128' },
  ]);
});

const cases = (['IPv4', 'IPv6'] as const).flatMap((family) => (['TCP', 'UDP'] as const).map((protocol) => ({ family, protocol })));

describe.each(cases)('$family $protocol', ({ family, protocol }) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const otherVip = four ? '10.96.0.20' : 'fd00:96::20';
  const deadVip = four ? '10.96.0.66' : 'fd00:96::66';
  const node = four ? '10.0.0.1' : 'fd00:10::1';
  const outside = four ? '10.0.0.7' : 'fd00:10::7';
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);
  const isTcp = protocol === 'TCP';

  const backend = (address: string, fields: Partial<Backend> = {}): Backend => ({
    address,
    port: 8080,
    isUsable: true,
    isLocallyUsable: false,
    isLocal: true,
    isServing: true,
    ...fields,
  });
  const port = (name: string, address: string, backends: readonly Backend[]): DesiredPort => ({
    ...{
      key: `default/${name}:web/${protocol}/${family}`,
      namespace: 'default',
      name,
      portName: 'web',
      protocol,
      family: family as Family,
      backends,
      affinitySeconds: 0,
      sourceRanges: [],
    },
    frontends: [{ address, family, port: 80, protocol, type: 'ClusterIP', policy: 'Cluster', hasSourceRanges: false }],
  });
  /** A NodePort with the backend pod 2. Its clients are masqueraded. */
  const nodePort = (): DesiredPort => ({
    ...port('node-port', node, [backend(pod(2))]),
    frontends: [frontendRow(node, { port: 30_080, protocol, type: 'NodePort' })],
  });
  /** The first packet of a flow from pod 1. */
  const request = (fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol, source: pod(1), destination: vip, sourcePort: 40_000, destinationPort: 80, payload: Uint8Array.of(1, 2, 3) },
    ...(isTcp ? { flags: SYN } : {}),
    ...fields,
  });
  const send = (packet: Packet, program = 'tc_pod_in', ifindex = devices.lxc1) => loaded.forward(program, build(packet), { ifindex });
  /** Sends a packet, expects that it is translated, and returns the translated packet. */
  const translated = (packet: Packet, program?: string, ifindex?: number): Packet => {
    const result = send(packet, program, ifindex);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    return read(result.packet);
  };
  const unchanged = (packet: Packet, program?: string, ifindex?: number): void => {
    const result = send(packet, program, ifindex);
    expect(result.verdict).toBe(TC_ACT_UNSPEC);
    expect(result.packet).toEqual(build(packet));
  };
  /** Builds the answer of the backend to a translated packet. */
  const answerTo = (sent: Packet, flags: number = SYN | ACK): Packet => ({
    ...{ protocol, source: sent.destination, destination: sent.source, payload: Uint8Array.of(9, 9) },
    ...{ sourcePort: sent.destinationPort ?? 0, destinationPort: sent.sourcePort ?? 0 },
    ...(isTcp ? { flags } : {}),
  });

  beforeEach(() => {
    loaded.forgetFlows();
    loaded.apply([port('web', vip, [backend(pod(2)), backend(pod(3))]), port('dead', deadVip, [])]);
  });

  test('a request is translated to one of the backends that the oracle allows', () => {
    const rows = [port('web', vip, [backend(pod(2)), backend(pod(3))]), port('dead', deadVip, [])];
    for (let sourcePort = 40_000; sourcePort < 40_050; sourcePort += 1) {
      const packet = request({ sourcePort });
      const expected = trace({ ports: rows }, { protocol, sourceIP: pod(1), sourcePort, destIP: vip, destPort: 80 });
      const out = translated(packet);
      expect(expected.candidates).toContain(hostPort(out.destination, out.destinationPort ?? 0));
      expect(out).toEqual({ ...read(build(packet)), destination: out.destination, destinationPort: 8080 });
      // A second packet with the same content gets the same translation.
      expect(translated(packet)).toEqual(out);
    }
  });

  test('backends are chosen evenly, so that each of three backends gets a third of the flows, within 15 %', () => {
    loaded.apply([port('web', vip, [backend(pod(1)), backend(pod(2)), backend(pod(3))])]);
    const counts = new Map<string, number>();
    for (let sourcePort = 30_000; sourcePort < 33_000; sourcePort += 1) {
      const { destination } = translated(request({ sourcePort }));
      counts.set(destination, (counts.get(destination) ?? 0) + 1);
    }
    expect(counts.size).toBe(3);
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(150);
  });

  test('the source of a reply becomes the VIP, and a reply without a flow is unchanged', () => {
    const sent = translated(request());
    const back = translated(answerTo(sent));
    expect(back).toMatchObject({ source: vip, sourcePort: 80, destination: pod(1), destinationPort: 40_000 });
    unchanged({ ...answerTo(sent), destinationPort: 41_111 });
  });

  test('packets with payloads of several lengths, IPv4 options and IPv6 extension headers are translated', () => {
    for (const length of [0, 1, 2, 7, 100, 1201])
      expect(translated(request({ payload: new Uint8Array(length).fill(7) })).payload).toHaveLength(length);
    const options = four ? Uint8Array.of(1, 1, 1, 0) : Uint8Array.of(isTcp ? 6 : 17, 0, 1, 4, 0, 0, 0, 0);
    expect(translated(request({ options })).destinationPort).toBe(8080);
    // All extension headers that RFC 8200, 4.1, allows: hop-by-hop, destination options, routing, fragment (only one), destination options.
    const extension = (next: number, ...rest: readonly number[]): number[] => [next, 0, ...(rest.length > 0 ? rest : [1, 4, 0, 0, 0, 0])];
    const every = [
      extension(60),
      extension(43),
      extension(44, 4, 0, 0, 0, 0, 0),
      extension(60, 0, 0, 0, 0, 0, 9),
      extension(isTcp ? 6 : 17),
    ];
    if (!four) expect(translated(request({ options: Uint8Array.from(every.flat()) })).destinationPort).toBe(8080);
    if (four && !isTcp) expect(translated(request({ hasNoChecksum: true })).hasNoChecksum).toBe(true);
  });

  test('packets without a frontend pass unchanged', () => {
    unchanged(request({ destination: otherVip }));
    unchanged(request({ destinationPort: 81 }));
    unchanged({ ...request(), protocol: isTcp ? 'UDP' : 'TCP' });
    unchanged({ protocol: 'ICMP', source: pod(1), destination: vip, type: four ? 8 : 128, payload: new Uint8Array(20) });
    const frame = build(request());
    // BPF_PROG_TEST_RUN rejects packets that end within the IP header.
    for (const inside of [0, 1, 3, 7]) {
      const cut = frame.subarray(0, (four ? 34 : 54) + inside);
      expect(loaded.forward('tc_pod_in', cut, { ifindex: devices.lxc1 })).toMatchObject({ verdict: TC_ACT_UNSPEC, packet: cut });
    }
    // A device with a header that the programs do not know, such as GRE with several remote ends, has another header in this place.
    const other = Uint8Array.from(frame);
    other[14] = (four ? 0x65 : 0x45) | ((other[14] ?? 0) & 0x0f);
    expect(loaded.forward('tc_pod_in', other, { ifindex: devices.lxc1 })).toMatchObject({ verdict: TC_ACT_UNSPEC, packet: other });
  });

  test('a pod that reaches itself through a VIP sees the VIP as its peer, and its reply is delivered to itself', () => {
    loaded.apply([port('web', vip, [backend(pod(1))])]);
    const sent = translated(request());
    expect(sent).toMatchObject({ source: vip, sourcePort: 40_000, destination: pod(1), destinationPort: 8080 });
    expect(translated(answerTo(sent))).toMatchObject({ source: vip, sourcePort: 80, destination: pod(1), destinationPort: 40_000 });
  });

  test('flows of one client port to one backend through two VIPs do not collide', () => {
    loaded.apply([port('web', vip, [backend(pod(2))]), port('other', otherVip, [backend(pod(2))])]);
    const first = translated(request());
    const second = translated(request({ destination: otherVip }));
    expect(first.sourcePort).toBe(40_000);
    expect(second.sourcePort).not.toBe(40_000);
    expect(translated(answerTo(first))).toMatchObject({ source: vip, destinationPort: 40_000 });
    expect(translated(answerTo(second))).toMatchObject({ source: otherVip, destinationPort: 40_000 });
  });

  test('13: when a backend is removed, a TCP flow keeps it until the connection closes, and a UDP flow moves with its next packet', () => {
    const before = translated(request());
    const others = [pod(2), pod(3)].filter((address) => address !== before.destination).map((address) => backend(address));
    loaded.apply([port('web', vip, others)]);
    const after = translated(request(isTcp ? { flags: ACK } : {}));
    if (isTcp) {
      expect(after.destination).toBe(before.destination);
      // A new SYN selects a backend again.
      expect(translated(request()).destination).toBe(others[0]?.address);
    } else expect(after.destination).toBe(others[0]?.address);
  });

  test('13: when a backend stops serving, a UDP flow moves if another backend is usable, and all other flows stay', () => {
    const before = translated(request());
    const draining = backend(before.destination, { isUsable: false, isServing: false });
    loaded.apply([port('web', vip, [draining])]);
    expect(translated(request(isTcp ? { flags: ACK } : {})).destination).toBe(before.destination);
    const other = [pod(2), pod(3)].find((address) => address !== before.destination) ?? '';
    loaded.apply([port('web', vip, [draining, backend(other)])]);
    expect(translated(request(isTcp ? { flags: ACK } : {})).destination).toBe(isTcp ? before.destination : other);
  });

  test('a row of a flow that is evicted is written again within one unit of flow_now()', () => {
    // A masqueraded flow has all three rows.
    loaded.apply([nodePort()]);
    const packet = request({ source: outside, destination: node, destinationPort: 30_080 });
    const again = isTcp ? { ...packet, flags: ACK } : packet;
    const sent = translated(packet, 'tc_uplink_in', devices.eth0);
    const map = loaded.datapath.map(four ? 'ct4' : 'ct6');
    const ask = (): void => expect(translated(again, 'tc_uplink_in', devices.eth0).sourcePort).toBe(sent.sourcePort);
    const answer = (): void => expect(translated(answerTo(sent), 'tc_pod_in', devices.lxc2).source).toBe(node);
    const codec = four ? flow4Codec : flow6Codec;
    const rows = [...map.entries()].map(([key, value]) => ({ key, kind: decoded(codec, value).row }));
    expect(rows.map(({ kind }) => kind).toSorted((a, b) => a - b)).toEqual([FlowRow.ROW_REQUEST, FlowRow.ROW_INNER, FlowRow.ROW_REPLY]);
    for (const { key, kind } of rows) {
      map.delete(key);
      loaded.ageFlows(1);
      // A packet finds its flow by the row of its own direction, so a packet of the other direction comes first.
      for (const step of kind === FlowRow.ROW_REQUEST ? [answer, ask] : [ask, answer]) step();
      expect(map.get(key)).toBeDefined();
    }
  });

  test('a packet to a frontend without a usable backend is refused with the VIP as source, and is counted', () => {
    const before = loaded.drops()['NO_BACKEND'] ?? 0;
    const packet = request({ destination: deadVip, sequence: 7000 });
    const out = translated({ ...packet, mac: { source: 0x11, destination: 2 } });
    expect(loaded.drops()['NO_BACKEND']).toBe(before + 1);
    if (isTcp) {
      // The acknowledgement number is 7000 (sequence number) + 1 (SYN) + 3 (payload bytes).
      expect(out).toMatchObject({
        protocol: 'TCP',
        source: deadVip,
        destination: pod(1),
        sourcePort: 80,
        destinationPort: 40_000,
        flags: RST | ACK,
        acknowledge: 7004,
      });
      expect(translated(request({ destination: deadVip, flags: ACK, acknowledge: 555 }))).toMatchObject({ flags: RST, sequence: 555 });
      expect(send(request({ destination: deadVip, flags: RST })).verdict).toBe(TC_ACT_SHOT);
    } else {
      expect(out).toMatchObject({ protocol: 'ICMP', source: deadVip, destination: pod(1), type: four ? 3 : 1, code: four ? 3 : 4 });
      expect(readIp(out.payload ?? new Uint8Array(), true)).toMatchObject({
        source: pod(1),
        destination: deadVip,
        sourcePort: 40_000,
        destinationPort: 80,
      });
    }
  });

  describe('ICMP errors', () => {
    const unreachable = four ? { type: 3, code: 3 } : { type: 1, code: 4 };
    const tooBig = four ? { type: 3, code: 4 } : { type: 2, code: 0 };

    test('after translation, an ICMP error from the side of the backend quotes the packet that the client sent', () => {
      const sent = translated(request());
      for (const from of [sent.destination, outside]) {
        const out = translated(
          { protocol: 'ICMP', source: from, destination: pod(1), ...unreachable, payload: ipPacket(sent) },
          from === outside ? 'tc_uplink_in' : 'tc_pod_in',
          devices.lxc2,
        );
        // The VIP becomes the source of the error, even if a router sent the error. With its own address as the source, the router would
        // reject the error if it is the next hop on the way to the client.
        expect(out).toMatchObject({ source: vip, destination: pod(1), ...unreachable });
        expect(readIp(out.payload ?? new Uint8Array(), true)).toMatchObject({
          source: pod(1),
          destination: vip,
          sourcePort: 40_000,
          destinationPort: 80,
        });
      }
    });

    test('after translation, an ICMP error from the side of the client quotes the packet that the backend sent', () => {
      const sent = translated(request());
      const reply = translated(answerTo(sent));
      const out = translated({ protocol: 'ICMP', source: pod(1), destination: vip, ...tooBig, payload: ipPacket(reply) });
      expect(out).toMatchObject({ source: pod(1), destination: sent.destination, ...tooBig });
      expect(readIp(out.payload ?? new Uint8Array(), true)).toMatchObject({
        source: sent.destination,
        destination: pod(1),
        sourcePort: 8080,
        destinationPort: 40_000,
      });
    });

    test('an ICMP error to another host than the sender of the quoted packet is unchanged', () => {
      const sent = translated(request());
      const error = (destination: string, about: Packet): Uint8Array =>
        build({ protocol: 'ICMP', source: outside, destination, ...unreachable, payload: ipPacket(about) });
      const entering = error(node, { ...answerTo(sent), source: vip, sourcePort: 80 });
      expect(loaded.run('tc_uplink_in', entering, { ifindex: devices.eth0 }).packet).toEqual(entering);
      const leaving = error(pod(3), sent);
      expect(loaded.run('tc_pod_out', leaving, { ifindex: devices.lxc3, ingressIfindex: devices.eth0 }).packet).toEqual(leaving);
    });

    if (!four)
      test('an ICMPv6 error that quotes extension headers is translated', () => {
        const hopByHop = Uint8Array.of(isTcp ? 6 : 17, 0, 1, 4, 0, 0, 0, 0);
        const sent = send(request({ options: hopByHop })).packet;
        const error = { protocol: 'ICMP', source: read(sent).destination, destination: pod(1), ...unreachable } as const;
        const out = translated({ ...error, payload: sent.slice(14) }, 'tc_pod_in', devices.lxc2);
        expect(out.source).toBe(vip);
        const quoted = readIp(out.payload ?? new Uint8Array(), true);
        expect(quoted).toMatchObject({ source: pod(1), sourcePort: 40_000, destination: vip, destinationPort: 80 });
      });

    test('an ICMP error of the node about a reply to its own socket is sent to the backend', () => {
      const sent = translated(request({ source: node }), 'tc_uplink_out', devices.eth0);
      const reply = translated(answerTo(sent), 'tc_pod_in', devices.lxc2);
      const error = { protocol: 'ICMP', source: node, destination: vip, ...unreachable, payload: ipPacket(reply) } as const;
      const out = translated(error, 'tc_uplink_out', devices.eth0);
      expect(out).toMatchObject({ source: node, destination: sent.destination });
      expect(readIp(out.payload ?? new Uint8Array(), true)).toMatchObject({
        source: sent.destination,
        destination: node,
        sourcePort: 8080,
        destinationPort: 40_000,
      });
    });

    test('an ICMP error about a packet without a flow is unchanged', () => {
      translated(request());
      const quoted = ipPacket({ protocol, source: pod(1), destination: pod(2), sourcePort: 5, destinationPort: 6 });
      unchanged({ protocol: 'ICMP', source: pod(2), destination: pod(1), ...unreachable, payload: quoted });
    });
  });

  test('a request of a socket of the node leaves through the uplink, and the reply has the MAC address of the node', () => {
    const sent = translated(request({ source: node, mac: { source: 0x77, destination: 0x99 } }), 'tc_uplink_out', devices.eth0);
    const result = send(answerTo(sent), 'tc_pod_in', devices.lxc2);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    expect([...result.packet.subarray(0, 6)]).toEqual([2, 0, 0, 0, 0, 0x77]);
    expect(read(result.packet)).toMatchObject({ source: vip, destination: node });
  });

  test('if packets of a socket of the node leave through another device, replies are sent to that device', () => {
    const packet = request({ source: node, mac: { source: 0x11, destination: 0x99 } });
    const sent = translated(packet, 'tc_uplink_out', devices.eth0);
    translated({ ...packet, mac: { source: 0x22, destination: 0x99 } }, 'tc_uplink_out', devices.lxc3);
    const result = send(answerTo(sent), 'tc_pod_in', devices.lxc2);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    expect([...result.packet.subarray(0, 6)]).toEqual([2, 0, 0, 0, 0, 0x22]);
    expect(loaded.run('tc_uplink_in', build(answerTo(sent)), { ifindex: devices.lxc3 }).verdict).toBe(TC_ACT_UNSPEC);
  });

  test('pod packets to a backend on an address of the node go to the network stack, and the replies are translated at the pod', () => {
    loaded.apply([port('web', vip, [backend(node)])]);
    const result = send(request());
    expect(result.verdict).toBe(TC_ACT_UNSPEC);
    expect(read(result.packet)).toMatchObject({ source: pod(1), destination: node, destinationPort: 8080 });
    const back = send(answerTo(read(result.packet)), 'tc_pod_out', devices.lxc1);
    expect(back.verdict).toBe(TC_ACT_UNSPEC);
    expect(read(back.packet)).toMatchObject({ source: vip, sourcePort: 80, destination: pod(1) });
  });

  test('a packet from the node to a backend on an address of the node is dropped and counted', () => {
    const before = loaded.drops();
    loaded.apply([port('web', vip, [backend(node)])]);
    expect(send(request({ source: node }), 'tc_uplink_out', devices.eth0).verdict).toBe(TC_ACT_SHOT);
    expect(loaded.drops()['NODE_TO_SELF']).toBe((before['NODE_TO_SELF'] ?? 0) + 1);
  });

  test('a reply gets the VIP where it leaves the node, on whatever device', () => {
    const sent = translated(request());
    for (const [program, ifindex] of [
      ['tc_pod_out', devices.lxc1],
      ['tc_uplink_out', devices.eth0],
    ] as const) {
      const result = loaded.run(program, build(answerTo(sent)), { ifindex, ingressIfindex: devices.lxc2 });
      expect(result.verdict).toBe(TC_ACT_UNSPEC);
      expect(read(result.packet)).toMatchObject({ source: vip, sourcePort: 80, destination: pod(1), destinationPort: 40_000 });
    }
  });

  test('between the two hooks the stack sees the client and the backend in both directions, even if the flow is masqueraded', () => {
    loaded.apply([nodePort()]);
    const packet = request({ source: outside, destination: node, destinationPort: 30_080 });
    const sent = translated(packet, 'tc_uplink_in', devices.eth0);
    const inside = loaded.run('tc_uplink_in', build(packet), { ifindex: devices.eth0 });
    expect(read(inside.packet)).toMatchObject({ source: outside, sourcePort: 40_000, destination: pod(2), destinationPort: 8080 });
    const back = loaded.run('tc_pod_in', build(answerTo(sent)), { ifindex: devices.lxc2 });
    expect(read(back.packet)).toMatchObject({ source: pod(2), sourcePort: 8080, destination: outside, destinationPort: 40_000 });
  });

  if (isTcp) {
    test('a SYN of an open flow keeps its backend, and a SYN after FIN or RST selects a backend again', () => {
      const before = translated(request());
      translated(answerTo(before));
      expect(translated(request()).destination).toBe(before.destination);
      translated(request({ flags: FIN | ACK }));
      const other = [pod(2), pod(3)].find((address) => address !== before.destination) ?? '';
      loaded.apply([port('web', vip, [backend(other), backend(before.destination, { isUsable: false })])]);
      expect(translated(request({ flags: ACK })).destination).toBe(before.destination);
      expect(translated(request()).destination).toBe(other);
    });

    test('packets of a later direct connection with the tuple of a closed flow are unchanged', () => {
      const sent = translated(request());
      translated(answerTo(sent));
      translated(request({ flags: FIN | ACK }));
      expect(translated(answerTo(sent, ACK)).source).toBe(vip); // a half-closed connection is still translated
      translated(answerTo(sent, FIN | ACK));
      unchanged(answerTo(sent, SYN | ACK));
      unchanged(answerTo(sent, ACK));
    });
  }
});
