// SPDX-License-Identifier: Apache-2.0
// Service features in addition to ClusterIPs. Each test runs single packets through the real programs: masquerading and its ports,
// traffic policies, affinity, source ranges, fragments, hop limits, MTU, SCTP and VLANs. Both IP families. Every checksum is verified.
import { beforeEach, describe, expect, test } from 'vitest';
import { kernelSources } from '../../daemon/maps/kernel-maps.ts';
import type { Family } from '../../daemon/model/address.ts';
import type { Backend, DesiredPort, Frontend } from '../../daemon/model/frontend.ts';
import type { Protocol } from '../../daemon/model/service.ts';
import { backendRow, frontendRow } from '../support/builders.ts';
import { devices, ip, type Loaded, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import {
  build,
  crc32c,
  fragments,
  ipPacket,
  type Packet,
  read,
  readIp,
  TC_ACT_REDIRECT,
  TC_ACT_SHOT,
  TC_ACT_UNSPEC,
  tcpFlags,
} from './packet.ts';

const { SYN, RST, ACK, FIN } = tcpFlags;

let loaded: Loaded;

loadForFile((it) => {
  loaded = it;
});

describe.each(['IPv4', 'IPv6'] as const)('%s', (family: Family) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const node = four ? '10.0.0.1' : 'fd00:10::1';
  const external = four ? '192.0.2.10' : '2001:db8::10';
  const outside = four ? '10.0.0.7' : 'fd00:10::7';
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);
  const remote = four ? '10.0.0.99' : 'fd00:10::99';
  const length = four ? 32 : 128;

  const port = (frontends: readonly Frontend[], backends: readonly Backend[], fields: Partial<DesiredPort> = {}): DesiredPort => ({
    ...{ key: `default/web:web/TCP/${family}`, namespace: 'default', name: 'web', portName: 'web', protocol: 'TCP', family },
    ...{ frontends, backends, affinitySeconds: 0, sourceRanges: [] },
    ...fields,
  });
  const clusterIP = (fields: Partial<Frontend> = {}): Frontend => frontendRow(vip, fields);
  const nodePort = (fields: Partial<Frontend> = {}): Frontend => frontendRow(node, { port: 30_080, type: 'NodePort', ...fields });
  const loadBalancer = (fields: Partial<Frontend> = {}): Frontend => frontendRow(external, { type: 'LoadBalancer', ...fields });
  const request = (fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol: 'TCP', source: pod(1), destination: vip, sourcePort: 40_000, destinationPort: 80, flags: SYN },
    ...fields,
  });
  const fromOutside = (fields: Partial<Packet> = {}): Packet =>
    request({ source: outside, destination: node, destinationPort: 30_080, ...fields });
  const hooks = { tc_pod_in: () => devices.lxc1, tc_uplink_in: () => devices.eth0, tc_uplink_out: () => devices.eth0 };
  const send = (packet: Packet, hook: keyof typeof hooks = 'tc_pod_in') => loaded.forward(hook, build(packet), { ifindex: hooks[hook]() });
  const translated = (packet: Packet, hook?: keyof typeof hooks): Packet => {
    const result = send(packet, hook);
    expect(result.verdict).toBe(TC_ACT_REDIRECT);
    return read(result.packet);
  };
  const answerTo = (sent: Packet, flags: number = SYN | ACK): Packet => ({
    ...{ protocol: sent.protocol, source: sent.destination, destination: sent.source, flags },
    ...{ sourcePort: sent.destinationPort ?? 0, destinationPort: sent.sourcePort ?? 0 },
  });
  const dropped = (reason: string, packet: Packet, hook?: keyof typeof hooks): void => {
    const before = loaded.drops()[reason] ?? 0;
    expect(send(packet, hook).verdict).toBe(TC_ACT_SHOT);
    expect(loaded.drops()[reason]).toBe(before + 1);
  };

  beforeEach(() => {
    loaded.forgetFlows();
    loaded.applyHost(plainHost, [{ set: 'node', cidr: `${node}/${length}` }]);
  });

  test('NodePort traffic from outside with policy Cluster is masqueraded with an allocated port, and replies have the NodePort as source', () => {
    loaded.apply([port([nodePort()], [backendRow(pod(2))])]);
    const seen = new Set<number>();
    for (let sourcePort = 40_000; sourcePort < 40_100; sourcePort += 1) {
      const sent = translated(fromOutside({ sourcePort }), 'tc_uplink_in');
      expect(sent).toMatchObject({ source: node, destination: pod(2), destinationPort: 8080 });
      const allocated = sent.sourcePort ?? 0;
      expect((allocated >= 1024 && allocated <= 29_999) || (allocated >= 61_000 && allocated <= 65_535)).toBe(true);
      seen.add(allocated);
      const back = translated(answerTo(sent));
      expect(back).toMatchObject({ source: node, sourcePort: 30_080, destination: outside, destinationPort: sourcePort });
      // The second packet of the flow has the same source port.
      expect(translated(fromOutside({ sourcePort, flags: ACK }), 'tc_uplink_in').sourcePort).toBe(allocated);
    }
    expect(seen.size).toBe(100);
  });

  test('a masqueraded flow has an address of the device that it leaves by, and one for the next hop if there is one', () => {
    const sources = kernelSources((name) => loaded.datapath.map(name))[family];
    const [all, subnet, ofPod, ofSubnet, ofUplink] = four
      ? ['0.0.0.0', '10.0.0.0', '10.9.0.2', '10.0.0.50', '10.9.0.9']
      : ['::', 'fd00:10::', 'fd00:9::2', 'fd00:10::50', 'fd00:9::9'];
    const rows = [
      { key: { prefix: 32, ifindex: devices.lxc2, address: all }, address: ofPod },
      { key: { prefix: 32, ifindex: devices.eth0, address: all }, address: ofUplink },
      { key: { prefix: four ? 56 : 96, ifindex: devices.eth0, address: subnet }, address: ofSubnet },
    ];
    const sourceTo = (backend: string, sourcePort: number): string => {
      loaded.apply([port([nodePort()], [backendRow(backend)])]);
      return translated(fromOutside({ sourcePort }), 'tc_uplink_in').source;
    };
    for (const { key, address } of rows) sources.set(key, { address });
    try {
      expect([sourceTo(pod(2), 1), sourceTo(remote, 2), sourceTo(four ? '198.51.100.9' : '2001:db8:9::9', 3)]).toEqual([
        ...[ofPod, ofSubnet, ofUplink],
      ]);
      // A device without an address uses the address of the node.
      expect(sourceTo(pod(3), 4)).toBe(node);
    } finally {
      for (const { key } of rows) sources.delete(key);
    }
  });

  test('a UDP flow gets another source address when its device does not have the old one any more, and a TCP connection keeps it', () => {
    const sources = kernelSources((name) => loaded.datapath.map(name))[family];
    const [old, other, unused] = four ? ['10.0.0.50', '10.0.0.51', '10.0.0.52'] : ['fd00:10::50', 'fd00:10::51', 'fd00:10::52'];
    const bits = 32 + length;
    const all = { prefix: 32, ifindex: devices.lxc2, address: four ? '0.0.0.0' : '::' };
    const own = (address: string) => ({ prefix: bits, ifindex: devices.lxc2, address });
    const kinds = [
      { protocol: 'TCP', flags: SYN },
      { protocol: 'UDP', flags: 0 },
    ] as const;
    const sourcesNow = (flags: number): string[] =>
      kinds.map(({ protocol }) => translated(fromOutside({ protocol, flags }), 'tc_uplink_in').source);
    loaded.apply(
      kinds.map(({ protocol }) => port([nodePort({ protocol })], [backendRow(pod(2))], { protocol, key: `default/${protocol}` })),
    );
    for (const address of [old, unused]) sources.set(own(address), { address });
    sources.set(all, { address: old });
    try {
      expect(sourcesNow(SYN)).toEqual([old, old]);
      // Another address is selected for new flows, and the old one is still there.
      sources.set(all, { address: unused });
      loaded.applyHost({ ...plainHost, removedSources: 1 });
      expect(sourcesNow(ACK)).toEqual([old, old]);
      sources.set(own(other), { address: other });
      sources.set(all, { address: other });
      sources.delete(own(old));
      const moved = translated(fromOutside({ protocol: 'UDP', flags: 0 }), 'tc_uplink_in');
      expect([moved.source, ...sourcesNow(ACK)]).toEqual([other, old, other]);
      // The answer to the new source is translated.
      expect(translated(answerTo(moved), 'tc_pod_in')).toMatchObject({ source: node, destination: outside, destinationPort: 40_000 });
    } finally {
      for (const key of [all, own(unused), own(other)]) sources.delete(key);
    }
  });

  test('masqueraded requests and their replies have the mark between the hooks, and other packets have not', () => {
    const rest = 0x0001_0002;
    const run = (packet: Packet, [program, device]: readonly [string, keyof typeof devices], mark = rest) => {
      const result = loaded.run(program, build(packet), { ifindex: devices[device], mark });
      return { mark: result.mark, packet: read(result.packet) };
    };
    const marks = (forwardMark: number): number[] => {
      loaded.forgetFlows();
      loaded.applyHost({ ...plainHost, forwardMark });
      loaded.apply([port([nodePort(), clusterIP()], [backendRow(pod(2))])]);
      const entered = run(fromOutside(), ['tc_uplink_in', 'eth0']);
      const left = run(entered.packet, ['tc_pod_out', 'lxc2'], entered.mark);
      const answer = run(answerTo(left.packet), ['tc_pod_in', 'lxc2']);
      const answered = run(answer.packet, ['tc_uplink_out', 'eth0'], answer.mark);
      const again = run(fromOutside({ flags: ACK }), ['tc_uplink_in', 'eth0']);
      const plain = run(request(), ['tc_pod_in', 'lxc1']);
      const foreign = run(request({ destination: remote }), ['tc_pod_in', 'lxc1']);
      const passing = run(request({ destination: remote, source: pod(3) }), ['tc_uplink_out', 'eth0'], rest | 0x4000);
      return [entered, left, answer, answered, again, plain, foreign, passing].map(({ mark }) => mark);
    };
    const [marked, other] = [rest | 0x4000, rest];
    // A bit of others is kept, also on a packet that has ours for another reason.
    expect(marks(0x4000)).toEqual([marked, other, marked, other, marked, other, other, marked]);
    expect(marks(0)).toEqual([other, other, other, other, other, other, other, marked]);
  });

  test('NodePort traffic to a backend on another node has the address of this node, and the reply returns through this node', () => {
    loaded.apply([port([nodePort()], [backendRow(remote)])]);
    const sent = translated(fromOutside(), 'tc_uplink_in');
    expect(sent).toMatchObject({ source: node, destination: remote });
    const back = translated(answerTo(sent), 'tc_uplink_in');
    expect(back).toMatchObject({ source: node, sourcePort: 30_080, destination: outside, destinationPort: 40_000 });
  });

  test('with policy Local, clients outside get local backends and keep their source; local pods and the node get all backends', () => {
    const backends = [backendRow(pod(2), { isLocal: true, isLocallyUsable: true }), backendRow(remote)];
    loaded.apply([port([nodePort({ policy: 'Local' }), loadBalancer({ policy: 'Local' })], backends)]);
    loaded.applyHost({ ...plainHost, podDetection: { IPv4: 'cidr', IPv6: 'cidr' } }, [
      { set: 'node', cidr: `${node}/${length}` },
      { set: 'pod', cidr: four ? '10.244.0.0/16' : 'fd00:244::/32' },
    ]);
    const found = { outside: new Set<string>(), pod: new Set<string>(), node: new Set<string>() };
    for (let sourcePort = 40_000; sourcePort < 40_040; sourcePort += 1) {
      const direct = translated(fromOutside({ sourcePort }), 'tc_uplink_in');
      expect(direct).toMatchObject({ source: outside, sourcePort });
      found.outside.add(direct.destination);
      const fromPod = translated(request({ destination: external, sourcePort }));
      expect(fromPod).toMatchObject({ source: pod(1), sourcePort });
      found.pod.add(fromPod.destination);
      const fromNode = translated(request({ source: node, destination: external, sourcePort }), 'tc_uplink_out');
      expect(fromNode.source).toBe(node);
      found.node.add(fromNode.destination);
    }
    expect([...found.outside]).toEqual([pod(2)]);
    expect([...found.pod].sort()).toEqual([pod(2), remote].sort());
    expect([...found.node].sort()).toEqual([pod(2), remote].sort());
  });

  test('with policy Local, packets from outside are dropped if all backends are on other nodes, and refused if there is no backend', () => {
    loaded.apply([port([nodePort({ policy: 'Local' })], [backendRow(remote)])]);
    dropped('NO_LOCAL_BACKEND', fromOutside(), 'tc_uplink_in');
    loaded.apply([port([nodePort({ policy: 'Local' })], [])]);
    expect(translated(fromOutside(), 'tc_uplink_in')).toMatchObject({ source: node, destination: outside, flags: RST | ACK });
  });

  test('if local pods are recognised, ClusterIP traffic of other sources is masqueraded; masquerade-all masquerades all ClusterIP traffic', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    const sets = [
      { set: 'node', cidr: `${node}/${length}` },
      { set: 'pod', cidr: four ? '10.244.1.0/24' : 'fd00:244:1::/64' },
    ] as const;
    expect(translated(request({ source: outside }), 'tc_uplink_in').source).toBe(outside);
    loaded.forgetFlows();
    loaded.applyHost({ ...plainHost, podDetection: { IPv4: 'cidr', IPv6: 'cidr' } }, sets);
    expect(translated(request({ source: outside }), 'tc_uplink_in').source).toBe(node);
    expect(translated(request()).source).toBe(pod(1));
    loaded.forgetFlows();
    loaded.applyHost({ ...plainHost, podDetection: { IPv4: 'interface', IPv6: 'interface' } }, sets);
    expect(translated(request({ source: outside }), 'tc_uplink_in').source).toBe(node);
    expect(translated(request()).source).toBe(pod(1));
    loaded.forgetFlows();
    loaded.applyHost({ ...plainHost, masqueradeAll: true }, sets);
    expect(translated(request()).source).toBe(node);
  });

  test('NodePort traffic of a pod to itself is masqueraded with the node address', () => {
    loaded.apply([port([nodePort({ policy: 'Local' })], [backendRow(pod(1), { isLocal: true, isLocallyUsable: true })])]);
    loaded.applyHost({ ...plainHost, podDetection: { IPv4: 'cidr', IPv6: 'cidr' } }, [
      { set: 'node', cidr: `${node}/${length}` },
      { set: 'pod', cidr: `${pod(1)}/${length}` },
    ]);
    const sent = translated(request({ destination: node, destinationPort: 30_080 }));
    expect(sent).toMatchObject({ source: node, destination: pod(1) });
    expect(translated(answerTo(sent))).toMatchObject({ source: node, sourcePort: 30_080, destination: pod(1), destinationPort: 40_000 });
  });

  test('4.6, 3.2: packets from outside the source ranges are dropped, even if there is no backend', () => {
    const ranges = { sourceRanges: [four ? '10.0.0.0/29' : 'fd00:10::/125'] };
    const frontends = [loadBalancer({ hasSourceRanges: true }), clusterIP()];
    loaded.apply([port(frontends, [backendRow(pod(2))], ranges)]);
    expect(translated(fromOutside({ destination: external, destinationPort: 80 }), 'tc_uplink_in').destination).toBe(pod(2));
    dropped('SOURCE_RANGE', request({ destination: external }));
    expect(translated(request()).destination).toBe(pod(2));
    loaded.apply([port(frontends, [], ranges)]);
    dropped('SOURCE_RANGE', request({ destination: external }));
    // The source ranges are not checked again for an open flow.
    loaded.apply([port(frontends, [backendRow(pod(2))], ranges)]);
    translated(fromOutside({ destination: external, destinationPort: 80 }), 'tc_uplink_in');
    loaded.apply([port(frontends, [backendRow(pod(2))], { sourceRanges: [`${remote}/${length}`] })]);
    translated(fromOutside({ destination: external, destinationPort: 80, flags: ACK }), 'tc_uplink_in');
    dropped('SOURCE_RANGE', fromOutside({ destination: external, destinationPort: 80, sourcePort: 1 }), 'tc_uplink_in');
  });

  test('without a frontend, a packet to a ClusterIP is refused, one to an unallocated address is dropped, and others are unchanged', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    const [first, last, cidr] = four ? ['10.96.0.0', '10.96.255.255', '10.96.0.0/16'] : ['fd00:96::', 'fd00:96::ffff', 'fd00:96::/112'];
    loaded.applyHost({ ...plainHost, clusterRange: { [family]: { first, last } } }, [
      { set: 'clusterIP', cidr: `${vip}/${length}` },
      { set: 'serviceCIDR', cidr },
    ]);
    expect(translated(request({ destinationPort: 81 }))).toMatchObject({ source: vip, sourcePort: 81, flags: RST | ACK });
    dropped('UNALLOCATED', request({ destination: four ? '10.96.7.7' : 'fd00:96::77' }));
    expect(send(request({ destination: external })).verdict).toBe(TC_ACT_UNSPEC);
  });

  test('10: until the affinity timeout, a client gets the same backend from all frontends whose backend set contains it', () => {
    const backends = [2, 3, 1].map((n) => backendRow(pod(n), { isLocal: true, isLocallyUsable: true }));
    const frontends = [clusterIP(), loadBalancer({ policy: 'Local' })];
    loaded.apply([port(frontends, backends, { affinitySeconds: 10_800 })]);
    const first = translated(request({ source: outside }), 'tc_uplink_in').destination;
    for (let sourcePort = 41_000; sourcePort < 41_020; sourcePort += 1) {
      expect(translated(request({ source: outside, sourcePort }), 'tc_uplink_in').destination).toBe(first);
      expect(translated(request({ source: outside, destination: external, sourcePort }), 'tc_uplink_in').destination).toBe(first);
    }
    // The backend leaves the Local set, so frontends with policy Local select another backend.
    const moved = backends.map((each) => ({ ...each, isLocallyUsable: each.address !== first }));
    loaded.apply([port(frontends, moved, { affinitySeconds: 10_800 })]);
    expect(translated(request({ source: outside, destination: external, sourcePort: 1 }), 'tc_uplink_in').destination).not.toBe(first);
    // Without affinity, requests are spread over all backends.
    loaded.apply([port(frontends, backends)]);
    const spread = new Set<string>();
    for (let sourcePort = 42_000; sourcePort < 42_040; sourcePort += 1)
      spread.add(translated(request({ source: outside, sourcePort }), 'tc_uplink_in').destination);
    expect(spread.size).toBe(3);
  });

  test('later fragments are translated like the first fragment, and are dropped if the first fragment was not seen', () => {
    loaded.apply([port([clusterIP({ protocol: 'UDP' })], [backendRow(pod(2))], { protocol: 'UDP', key: `default/web:web/UDP/${family}` })]);
    const whole = request({ protocol: 'UDP', payload: Uint8Array.from({ length: 3000 }, (_, i) => i) });
    const all = fragments(build(whole), 1400, 77);
    loaded.applyHost(plainHost, [{ set: 'clusterIP', cidr: `${vip}/${length}` }]);
    const before = loaded.drops()['FRAGMENT'] ?? 0;
    for (const later of all.slice(1)) expect(loaded.forward('tc_pod_in', later, { ifindex: devices.lxc1 }).verdict).toBe(TC_ACT_SHOT);
    expect(loaded.drops()['FRAGMENT']).toBe(before + all.length - 1);
    // A fragment to another address is not ours.
    const [, other = new Uint8Array()] = fragments(build({ ...whole, destination: outside }), 1400, 78);
    expect(loaded.forward('tc_pod_in', other, { ifindex: devices.lxc1 }).verdict).toBe(TC_ACT_UNSPEC);
    const sent = all.map((fragment) => loaded.forward('tc_pod_in', fragment, { ifindex: devices.lxc1 }));
    for (const result of sent) {
      expect(result.verdict).toBe(TC_ACT_REDIRECT);
      expect(readIp(result.packet.subarray(14), true)).toMatchObject({ source: pod(1), destination: pod(2) });
    }
    // A router reports that the first fragment is too big. The error must reach the sender: in IPv6 only the sender may fragment.
    const tooBig = four ? { type: 3, code: 4 } : { type: 2, code: 0 };
    const quote = sent[0]?.packet.slice(14, 200) ?? new Uint8Array();
    const error = translated({ protocol: 'ICMP', source: outside, destination: pod(1), ...tooBig, payload: quote }, 'tc_uplink_in');
    expect(error).toMatchObject({ source: vip, destination: pod(1), ...tooBig });
    expect(readIp(error.payload ?? new Uint8Array(), true)).toMatchObject({ source: pod(1), destination: vip, destinationPort: 80 });
  });

  test('translation does not change the hop limit, because the stack forwards the packet', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    const frame = build(request({ hops: 2 }));
    const { packet } = loaded.forward('tc_pod_in', frame, { ifindex: devices.lxc1 });
    expect(read(packet)).toMatchObject({ destination: pod(2) });
    const at = four ? 22 : 21;
    expect(packet[at]).toBe(2);
  });

  test('a packet of a socket of the node that is larger than the MTU of the backend is answered with "too big" and the MTU', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    ip('link', 'set', 'lxc2', 'mtu', '1300');
    try {
      const fromNode = (fields: Partial<Packet>): Packet => request({ source: node, ...fields });
      translated(fromNode({}), 'tc_uplink_out');
      const out = translated(fromNode({ flags: ACK, payload: new Uint8Array(1400) }), 'tc_uplink_out');
      expect(out).toMatchObject({ protocol: 'ICMP', source: vip, destination: node, type: four ? 3 : 2, code: four ? 4 : 0 });
      expect(out.rest).toBe(1300);
      expect(translated(fromNode({ flags: ACK, payload: new Uint8Array(1200) }), 'tc_uplink_out').destination).toBe(pod(2));
    } finally {
      ip('link', 'set', 'lxc2', 'mtu', '1500');
    }
  });

  test('an ICMP redirect about a translated packet is dropped where it leaves, and other redirects pass', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    const sent = translated(request());
    const redirect = (about: Packet): Packet => {
      const quoted = ipPacket(about);
      // ICMPv6: target and destination (RFC 4861, 4.5), then an option with the packet, whose length is in units of 8 bytes.
      const option = Uint8Array.of(4, Math.ceil(quoted.length / 8) + 1, 0, 0, 0, 0, 0, 0, ...quoted, ...new Uint8Array(7));
      const payload = four ? quoted : Uint8Array.of(...new Uint8Array(32), ...option.subarray(0, (option[1] ?? 0) * 8));
      return { protocol: 'ICMP', source: node, destination: pod(1), type: four ? 5 : 137, code: four ? 1 : 0, payload };
    };
    const leave = (packet: Packet): number => loaded.run('tc_pod_out', build(packet), { ifindex: devices.lxc1 }).verdict;
    const before = loaded.drops()['REDIRECT'] ?? 0;
    expect(leave(redirect(sent))).toBe(TC_ACT_SHOT);
    expect(loaded.drops()['REDIRECT']).toBe(before + 1);
    expect(leave(redirect({ ...sent, sourcePort: 7 }))).toBe(TC_ACT_UNSPEC);
  });

  test('translation changes the port and the CRC32c of an SCTP packet', () => {
    const sctp: Protocol = 'SCTP';
    const row = port([clusterIP({ protocol: sctp })], [backendRow(pod(2))], { protocol: sctp, key: `default/web:web/SCTP/${family}` });
    loaded.apply([row]);
    for (const size of [4, 8, 300, 1200]) {
      const packet = request({ protocol: sctp, sourcePort: 5000 + size, payload: Uint8Array.from({ length: size }, (_, i) => i * 7) });
      const out = translated(packet);
      expect(out).toMatchObject({ destination: pod(2), destinationPort: 8080, protocol: 'SCTP' });
      expect(translated({ ...answerTo(out), payload: new Uint8Array(8) })).toMatchObject({ source: vip, sourcePort: 80 });
    }
    expect(crc32c(new TextEncoder().encode('123456789'))).toBe(0xe306_9283);
  });

  test('a frame with a VLAN tag is left to the VLAN device', () => {
    loaded.apply([port([clusterIP()], [backendRow(pod(2))])]);
    const frame = build(request());
    const tagged = new Uint8Array(frame.length + 4);
    tagged.set(frame.subarray(0, 12));
    tagged.set([0x81, 0, 0, 100], 12);
    tagged.set(frame.subarray(12), 16);
    expect(loaded.forward('tc_pod_in', tagged, { ifindex: devices.lxc1 })).toMatchObject({ verdict: TC_ACT_UNSPEC, packet: tagged });
  });

  test('the port of a masqueraded flow is not given to another client while the flow is open', () => {
    loaded.apply([port([nodePort()], [backendRow(pod(2))])]);
    const first = translated(fromOutside(), 'tc_uplink_in');
    translated(fromOutside({ flags: FIN | ACK }), 'tc_uplink_in');
    translated(answerTo(first, FIN | ACK));
    const ports = new Set([first.sourcePort]);
    for (let sourcePort = 41_000; sourcePort < 41_200; sourcePort += 1) {
      const { sourcePort: allocated } = translated(fromOutside({ sourcePort }), 'tc_uplink_in');
      expect(ports.has(allocated)).toBe(false);
      ports.add(allocated);
    }
  });
});
