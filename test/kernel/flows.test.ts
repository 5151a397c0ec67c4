// SPDX-License-Identifier: Apache-2.0
// The lifetime of flows. Each test runs single packets through the real programs: reuse of source ports, flows whose backend or frontend
// changes, and packets that must not be assigned to a flow. Both IP families.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { beforeEach, describe, expect, test } from 'vitest';
import { decoded } from '../../daemon/maps/codec.ts';
import { flow4Codec, flow6Codec, FlowRow } from '../../daemon/maps/gen/layouts.ts';
import type { Family } from '../../daemon/model/address.ts';
import type { Backend, DesiredPort, Frontend } from '../../daemon/model/frontend.ts';
import { backendRow, frontendRow } from '../support/builders.ts';
import { devices, type Loaded, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, fragments, ipPacket, type Packet, read, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, tcpFlags } from './packet.ts';

const { SYN, RST, ACK } = tcpFlags;
/** Longer than every timeout except that of an established connection, in units of flow_now(). */
const LONG = 40;
const DAY = 20_000;

let loaded: Loaded;

loadForFile((it) => {
  loaded = it;
});

describe.each(['IPv4', 'IPv6'] as const)('%s', (family: Family) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const external = four ? '192.0.2.10' : '2001:db8::10';
  const node = four ? '10.0.0.1' : 'fd00:10::1';
  const outside = (n: number): string => (four ? `10.0.0.${n}` : `fd00:10::${n}`);
  const remote = outside(99);
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);

  const port = (name: string, frontend: Frontend, backends: readonly Backend[]): DesiredPort => ({
    ...{ key: `default/${name}:/${frontend.protocol}/${family}`, namespace: 'default', name, portName: '', protocol: frontend.protocol },
    ...{ family, frontends: [frontend], backends, affinitySeconds: 0, sourceRanges: [] },
  });
  const nodePort = (protocol: Frontend['protocol'] = 'TCP'): Frontend => frontendRow(node, { port: 30_080, protocol, type: 'NodePort' });
  const request = (fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol: 'TCP', source: outside(7), destination: node, sourcePort: 40_000, destinationPort: 30_080, flags: SYN },
    ...fields,
  });
  const hooks = { tc_pod_in: 'lxc1', tc_uplink_in: 'eth0', tc_uplink_out: 'eth0' } as const;
  const sendFrame = (frame: Uint8Array, hook: keyof typeof hooks) => loaded.forward(hook, frame, { ifindex: devices[hooks[hook]] });
  const send = (packet: Packet, hook: keyof typeof hooks = 'tc_uplink_in') => sendFrame(build(packet), hook);
  const translated = (packet: Packet, hook?: keyof typeof hooks): Packet => {
    const result = send(packet, hook);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    return read(result.packet);
  };
  const answerTo = (sent: Packet, fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol: sent.protocol, source: sent.destination, destination: sent.source, flags: SYN | ACK },
    ...{ sourcePort: sent.destinationPort ?? 0, destinationPort: sent.sourcePort ?? 0 },
    ...fields,
  });
  const drops = (reason: string): number => loaded.drops()[reason] ?? 0;
  /** Limits the source ports for masquerading to `count` ports, which start at 2000. */
  const givePorts = (count: number): void => {
    const row = loaded.maps.host.get(0);
    loaded.maps.host.set(0, { ...row, snatFirst: [2000, 0], snatCount: [count, 0] });
  };

  beforeEach(() => {
    loaded.forgetFlows();
    loaded.applyHost(plainHost, [{ set: 'node', cidr: `${node}/${four ? 32 : 128}` }]);
    const exhausted = loaded.datapath.map('lb_exhausted');
    for (const [key, value] of [...exhausted.entries()]) exhausted.set(key, new Uint8Array(value.length));
  });

  test.for([
    { name: 'a connection that the backend never answered', flags: SYN, age: LONG, isFree: true },
    { name: 'a lone RST', flags: RST, age: LONG, isFree: true },
    { name: 'an answered connection, after a day', flags: SYN, age: DAY, isFree: false },
  ])('the source port of $name is reused: $isFree', ({ flags, age, isFree }) => {
    loaded.apply([port('web', nodePort(), [backendRow(pod(2))])]);
    givePorts(4);
    for (let sourcePort = 1; sourcePort <= 12; sourcePort += 1) {
      const result = send(request({ sourcePort, flags }));
      if (!isFree && result.verdict === TC_ACT_REDIRECT) translated(answerTo(read(result.packet)), 'tc_pod_in');
    }
    loaded.ageFlows(age);
    const before = drops('PORT_EXHAUSTED');
    const opened = Array.from({ length: 20 }, (_, n) => send(request({ sourcePort: 100 + n })).verdict).filter(
      (verdict) => verdict === TC_ACT_REDIRECT,
    );
    if (isFree) expect(opened.length).toBeGreaterThan(0);
    else expect({ opened: opened.length, counted: drops('PORT_EXHAUSTED') - before }).toEqual({ opened: 0, counted: 20 });
  });

  test('while at most half of the ports are used, nearly every new flow gets a port, even after a flow that got none', () => {
    loaded.apply([port('web', nodePort(), [backendRow(pod(2))])]);
    givePorts(400);
    let opened = 0;
    for (let n = 0; n < 200; n += 1) opened += Number(send(request({ sourcePort: 1000 + n })).verdict === TC_ACT_REDIRECT);
    expect(opened).toBeGreaterThan(195);
  });

  test('a UDP client whose source port was given to another client does not get the answers of that client', () => {
    loaded.apply([port('dns', nodePort('UDP'), [backendRow(pod(2))])]);
    givePorts(1);
    const [a, b] = [request({ protocol: 'UDP' }), request({ protocol: 'UDP', source: outside(8) })];
    expect(translated(a).sourcePort).toBe(2000);
    loaded.ageFlows(LONG);
    const sent = translated(b);
    expect(sent.sourcePort).toBe(2000);
    // Once per unit of flow_now(), the datapath checks that a flow still has its source port. The flow of the first client has lost its
    // port, so the packet is dropped.
    loaded.ageFlows(1);
    expect(send(a).verdict).toBe(TC_ACT_SHOT);
    expect(translated(answerTo(sent), 'tc_pod_in').destination).toBe(outside(8));
  });

  /** Changes or deletes the inner rows of all flows. */
  const changeInner = (change: (view: DataView) => 'keep' | 'delete'): void => {
    const [map, codec] = four ? (['ct4', flow4Codec] as const) : (['ct6', flow6Codec] as const);
    for (const [key, value] of [...loaded.datapath.map(map).entries()]) {
      if (decoded<{ row: number }>(codec, value).row !== FlowRow.ROW_INNER) continue;
      if (change(new DataView(value.buffer, value.byteOffset)) === 'delete') loaded.datapath.map(map).delete(key);
      else loaded.datapath.map(map).set(key, value);
    }
  };

  test.for([
    { name: 'the kernel evicted the inner row', change: () => 'delete' as const },
    {
      name: 'another CPU has not written it to the inner row yet',
      change: (view: DataView) => {
        view.setUint16((four ? flow4Codec : flow6Codec).offsets['taken'] ?? 0, 0, true);
        return 'keep' as const;
      },
    },
  ])('the source port of an open connection is not given to another client, even if $name', ({ change }) => {
    loaded.apply([port('web', nodePort(), [backendRow(pod(2))])]);
    givePorts(1);
    const sent = translated(request());
    translated(answerTo(sent), 'tc_pod_in');
    changeInner(change);
    expect(send(request({ source: outside(8) })).verdict).toBe(TC_ACT_SHOT);
    loaded.ageFlows(1);
    expect(translated(request({ flags: ACK }))).toMatchObject({ source: node, sourcePort: 2000 });
    expect(translated(answerTo(sent, { flags: ACK }), 'tc_pod_in').destination).toBe(outside(7));
  });

  test('the port of an expired flow is not reused while a socket of the node uses it', async () => {
    loaded.apply([port('dns', nodePort('UDP'), [backendRow(pod(2))])]);
    givePorts(1);
    expect(translated(request({ protocol: 'UDP' })).sourcePort).toBe(2000);
    loaded.ageFlows(LONG);
    const other = request({ protocol: 'UDP', source: outside(8) });
    const socket = createSocket(four ? 'udp4' : 'udp6').bind(2000, node);
    try {
      await once(socket, 'listening');
      const before = drops('PORT_EXHAUSTED');
      expect(send(other).verdict).toBe(TC_ACT_SHOT);
      expect(drops('PORT_EXHAUSTED')).toBe(before + 1);
    } finally {
      await new Promise<void>((done) => socket.close(done));
    }
    expect(translated(other).sourcePort).toBe(2000);
  });

  test('a TCP packet that is not a SYN and has no flow is refused, and not masqueraded with a new port', () => {
    loaded.apply([port('web', nodePort(), [backendRow(pod(2))])]);
    const before = drops('NO_FLOW');
    expect(translated(request({ flags: ACK, acknowledge: 77 }))).toMatchObject({ flags: RST, sequence: 77, source: node });
    expect(drops('NO_FLOW')).toBe(before + 1);
  });

  test('a packet that was translated to a backend is not translated again on the uplink', () => {
    const frontend = frontendRow(vip);
    loaded.apply([
      port('web', frontend, [backendRow(remote, { port: 80 })]),
      port('ingress', frontendRow(remote, { type: 'ExternalIP' }), [backendRow(pod(3))]),
    ]);
    const sent = translated(request({ source: pod(1), destination: vip, destinationPort: 80 }), 'tc_pod_in');
    expect(sent).toMatchObject({ source: pod(1), destination: remote });
    const frame = build(sent);
    expect(loaded.forward('tc_uplink_out', frame, { ifindex: devices.eth0, ingressIfindex: devices.lxc1 })).toMatchObject({
      ...{ verdict: TC_ACT_UNSPEC, packet: frame },
    });
    // A new flow to the same address is translated, because the address is an external IP.
    expect(translated(request({ source: pod(1), destination: remote, destinationPort: 80, sourcePort: 1 }), 'tc_pod_in').destination).toBe(
      pod(3),
    );
  });

  test('a packet to a backend without a route is left to the stack, and that of a socket of the node is dropped and counted', () => {
    const backend = four ? '198.51.100.5' : '2001:db8:5::5';
    loaded.apply([port('web', frontendRow(vip), [backendRow(backend)])]);
    const packet = request({ source: pod(1), destination: vip, destinationPort: 80 });
    const entered = loaded.run('tc_pod_in', build(packet), { ifindex: devices.lxc1 });
    expect({ verdict: entered.verdict, destination: read(entered.packet).destination }).toEqual({
      ...{ verdict: TC_ACT_UNSPEC, destination: backend },
    });
    const before = drops('NO_ROUTE');
    expect(send({ ...packet, source: node }, 'tc_uplink_out').verdict).toBe(TC_ACT_SHOT);
    expect(drops('NO_ROUTE')).toBe(before + 1);
  });

  test('13: an SCTP flow keeps its backend as a TCP flow does, and a new INIT selects a backend again', () => {
    const frontend = frontendRow(vip, { protocol: 'SCTP' });
    const chunk = (type: number): Packet =>
      request({
        protocol: 'SCTP',
        source: pod(1),
        destination: vip,
        destinationPort: 80,
        payload: Uint8Array.of(type, 0, 0, 8, 1, 2, 3, 4),
      });
    loaded.apply([port('sig', frontend, [backendRow(pod(2))])]);
    expect(translated(chunk(1), 'tc_pod_in').destination).toBe(pod(2));
    loaded.apply([port('sig', frontend, [backendRow(pod(3))])]);
    expect(translated(chunk(0), 'tc_pod_in').destination).toBe(pod(2));
    expect(translated(chunk(1), 'tc_pod_in').destination).toBe(pod(3));
  });

  test('13: a UDP flow whose frontend moves to another Service gets a backend of that Service', () => {
    const frontend = frontendRow(external, { protocol: 'UDP', type: 'ExternalIP' });
    const packet = request({ protocol: 'UDP', source: pod(1), destination: external, destinationPort: 80 });
    const [a, b] = [port('a', frontend, [backendRow(pod(2))]), port('b', frontend, [backendRow(pod(3))])];
    loaded.apply([a, { ...b, frontends: [] }]);
    expect(translated(packet, 'tc_pod_in').destination).toBe(pod(2));
    loaded.apply([{ ...a, frontends: [frontendRow(vip, { protocol: 'UDP' })] }, b]);
    loaded.ageFlows(1);
    expect(translated(packet, 'tc_pod_in').destination).toBe(pod(3));
  });

  test('fragments of a datagram without a flow are not handled as fragments of an earlier datagram with the same id', () => {
    loaded.apply([port('dns', nodePort('UDP'), [backendRow(pod(2))])]);
    const payload = new Uint8Array(3000);
    const first = fragments(build(request({ protocol: 'UDP', payload })), 1400, 77);
    const others = fragments(build(request({ protocol: 'UDP', payload, destinationPort: 5000 })), 1400, 77);
    expect(first.map((frame) => sendFrame(frame, 'tc_uplink_in').verdict)).toEqual([TC_ACT_REDIRECT, TC_ACT_REDIRECT, TC_ACT_REDIRECT]);
    expect(others.map((frame) => sendFrame(frame, 'tc_uplink_in').verdict)).toEqual([TC_ACT_UNSPEC, TC_ACT_UNSPEC, TC_ACT_UNSPEC]);
  });

  test('ICMP errors about SCTP are translated, except errors that quote a later fragment, which has no ports', () => {
    const frontend = frontendRow(vip, { protocol: 'SCTP' });
    loaded.apply([port('sig', frontend, [backendRow(pod(2))])]);
    const init = request({ protocol: 'SCTP', source: pod(1), destination: vip, destinationPort: 80, payload: Uint8Array.of(1, 0, 0, 4) });
    const sent = translated(init, 'tc_pod_in');
    const error = (payload: Uint8Array): Packet => ({
      ...{ protocol: 'ICMP', source: pod(2), destination: pod(1), type: four ? 3 : 1, code: four ? 3 : 4, payload },
    });
    expect(translated(error(ipPacket(sent)), 'tc_pod_in')).toMatchObject({ source: vip, destination: pod(1) });
    if (!four) return;
    const later = ipPacket(sent);
    later[7] = 5; // fragment offset
    expect(send(error(later), 'tc_pod_in').verdict).toBe(TC_ACT_UNSPEC);
  });

  test('dropped bytes count the packet and not the answer to it', () => {
    loaded.apply([port('dead', frontendRow(vip, { protocol: 'UDP' }), [])]);
    const packet = request({ protocol: 'UDP', source: pod(1), destination: vip, destinationPort: 80, payload: new Uint8Array(900) });
    const before = loaded.droppedBytes()['NO_BACKEND'] ?? 0;
    expect(send(packet, 'tc_pod_in').verdict).toBe(TC_ACT_REDIRECT);
    expect(loaded.droppedBytes()['NO_BACKEND']).toBe(before + build(packet).length);
  });

  test('the acknowledgement number of a reset does not count the padding of the frame', () => {
    loaded.apply([port('dead', frontendRow(vip), [])]);
    const frame = build(request({ source: pod(1), destination: vip, destinationPort: 80, sequence: 1000 }));
    const padded = new Uint8Array(frame.length + 6);
    padded.set(frame);
    expect(read(sendFrame(padded, 'tc_pod_in').packet)).toMatchObject({ flags: RST | ACK, acknowledge: 1001 });
    const before = drops('NO_BACKEND');
    expect(send(request({ source: pod(1), destination: vip, destinationPort: 80, flags: RST }), 'tc_pod_in').verdict).toBe(TC_ACT_SHOT);
    expect(drops('NO_BACKEND')).toBe(before + 1);
  });
});
