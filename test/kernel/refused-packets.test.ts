// SPDX-License-Identifier: Apache-2.0
// Packets that are not for this node, or that its kernel would refuse: they must open no flow, get no answer and renew no affinity, and
// pass unchanged. Every case runs for both IP families and for TCP and UDP.
import { beforeEach, describe, expect, test } from 'vitest';
import { kernelDevices } from '../../daemon/maps/kernel-maps.ts';
import { DeviceFlag } from '../../daemon/maps/types.ts';
import type { Family } from '../../daemon/model/address.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import { deviceMac, devices, ip, type Loaded, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, checksum, type Packet, read, TC_ACT_REDIRECT, TC_ACT_UNSPEC, tcpFlags } from './packet.ts';

const BRIDGE_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xbb);
const OTHER_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0xcc);
/** Refused packets before the budget of a device is used up: REFUSALS_PER_WINDOW in datapath/lib/refuse.h. */
const BUDGET = 4096;

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
  const deadVip = four ? '10.96.0.66' : 'fd00:96::66';
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);
  const rows = (): object[] => ['ct4', 'ct6', 'lb4_affinity', 'lb6_affinity'].flatMap((name) => [...loaded.datapath.map(name).entries()]);
  const deviceMap = () => kernelDevices((name) => loaded.datapath.map(name));

  const port = (name: string, address: string, backends: readonly string[]): DesiredPort => ({
    ...{
      key: `default/${name}:web/${protocol}/${family}`,
      namespace: 'default',
      name,
      portName: 'web',
      protocol,
      family: family as Family,
    },
    ...{ affinitySeconds: 100, sourceRanges: [] },
    backends: backends.map((each) => ({
      ...{ address: each, port: 8080, isUsable: true, isLocallyUsable: false, isLocal: true, isServing: true },
    })),
    frontends: [{ address, family, port: 80, protocol, type: 'ClusterIP', policy: 'Cluster', hasSourceRanges: false }],
  });
  const request = (fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol, source: pod(1), destination: vip, sourcePort: 40_000, destinationPort: 80, payload: Uint8Array.of(1, 2, 3, 4) },
    ...(protocol === 'TCP' ? { flags: tcpFlags.SYN } : {}),
    ...fields,
  });
  const send = (frame: Uint8Array, program = 'tc_pod_in', ifindex = devices.lxc1) => loaded.run(program, frame, { ifindex });
  /** The packet passes unchanged, to a VIP with a backend and to one without, and leaves nothing behind. */
  const expectRefused = (fields: Partial<Packet>, change: (frame: Uint8Array) => void = () => undefined): void => {
    for (const destination of [vip, deadVip]) {
      for (const program of ['tc_pod_in', 'tc_uplink_in']) {
        const frame = build(request({ destination, ...fields }));
        change(frame);
        const drops = loaded.drops();
        const result = send(frame, program);
        expect({ verdict: result.verdict, packet: result.packet }).toEqual({ verdict: TC_ACT_UNSPEC, packet: frame });
        expect(loaded.drops()).toEqual(drops);
        expect(rows()).toEqual([]);
      }
    }
  };

  beforeEach(() => {
    loaded.forgetFlows();
    for (const [ifindex] of deviceMap().entries()) deviceMap().delete(ifindex);
    loaded.apply([port('web', vip, [pod(2)]), port('dead', deadVip, [])]);
  });

  const badSources = four
    ? ['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.0.9', '224.0.0.1', '239.255.255.255', '255.255.255.255', '10.0.0.1']
    : ['::', '::1', 'ff02::1', 'ff0e::7', '::ffff:10.244.1.1', 'fd00:10::1'];
  test.for(badSources)('a packet with the source %s makes no flow and gets no answer', (source) => expectRefused({ source }));

  const goodSources = four ? ['1.0.0.0', '126.255.255.255', '128.0.0.1', '223.255.255.255'] : ['::2', '2001:db8::1', 'fe80::1'];
  test.for(goodSources)('a packet with the source %s is translated', (source) => {
    expect(read(send(build(request({ source }))).packet).destination).toBe(pod(2));
  });

  if (four) {
    test('a packet with a wrong header checksum makes no flow', () => expectRefused({}, (frame) => (frame[24] = (frame[24] ?? 0) ^ 1)));

    test.for([
      ['longer than the packet', 4000],
      ['shorter than the header', 19],
    ] as const)('a packet whose length field is %s makes no flow', ([, length]) =>
      expectRefused({}, (frame) => {
        const view = new DataView(frame.buffer, frame.byteOffset);
        view.setUint16(16, length);
        view.setUint16(24, 0);
        view.setUint16(24, checksum(frame.subarray(14, 34)));
      }),
    );

    test.for([
      ['loose', 131],
      ['strict', 137],
    ] as const)('a packet with a %s source route makes no flow', ([, type]) => {
      expectRefused({ options: Uint8Array.of(1, type, 7, 4, 10, 0, 0, 9) });
    });

    test('a packet with other options is translated', () => {
      const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0); // record route, RFC 791
      expect(read(send(build(request({ options }))).packet).destination).toBe(pod(2));
    });

    describe('where rp_filter is 1', () => {
      beforeEach(() => {
        for (const ifindex of [devices.lxc1, devices.eth0])
          deviceMap().set(ifindex, { routeDev: ifindex, bridgeMac: new Uint8Array(6), flags: DeviceFlag.strictSource });
      });

      test.for(['10.244.1.3', '10.0.0.9', '192.0.2.1'])('a pod cannot open a flow with the source %s', (source) => {
        expect(send(build(request({ source }))).packet).toEqual(build(request({ source })));
        expect(rows()).toEqual([]);
      });

      test('the flow of a packet from the address of the pod is opened', () => {
        expect(read(send(build(request())).packet).destination).toBe(pod(2));
      });

      test('a port of a bridge is compared with the bridge', () => {
        deviceMap().set(devices.lxc1, { routeDev: devices.lxc2, bridgeMac: BRIDGE_MAC, flags: DeviceFlag.strictSource });
        expect(read(send(build(request({ source: pod(2) }))).packet).destination).toBe(pod(2));
        expect(send(build(request({ source: pod(1) }))).packet).toEqual(build(request({ source: pod(1) })));
      });

      test('a source that is reached through the default route is judged by that route', () => {
        const source = '192.0.2.1';
        ip('route', 'add', 'default', 'via', '10.0.0.254');
        try {
          expect(read(send(build(request({ source })), 'tc_uplink_in', devices.eth0).packet).destination).toBe(pod(2));
          const fromPod = request({ source, sourcePort: 40_001 });
          expect(send(build(fromPod), 'tc_pod_in').packet).toEqual(build(fromPod));
        } finally {
          ip('route', 'del', 'default');
        }
      });
    });
  } else {
    test('a packet whose length field is longer than the packet makes no flow', () =>
      expectRefused({}, (frame) => new DataView(frame.buffer, frame.byteOffset).setUint16(18, 4000)));

    test('a packet with a routing header that has segments left makes no flow', () => {
      const next = protocol === 'TCP' ? 6 : 17;
      // RFC 8200, 4.4: next header, length, type, segments left. The builder writes 0 (hop-by-hop) as the first next header.
      expectRefused({ options: Uint8Array.of(next, 0, 2, 1, 0, 0, 0, 0) }, (frame) => (frame[20] = 43));
    });
  }

  describe('frames that are not for this node', () => {
    const to = (mac: Uint8Array, packet = request()): Uint8Array => {
      const frame = build(packet);
      frame.set(mac);
      return frame;
    };

    test.for([
      ['another station', OTHER_MAC],
      ['all stations', new Uint8Array(6).fill(255)],
      ['a group', Uint8Array.of(1, 0, 0x5e, 0, 0, 1)],
    ] as const)('a frame to %s makes no flow and gets no answer', ([, mac]) => expectRefused({}, (frame) => frame.set(mac)));

    test('on a port of a bridge, a frame to the bridge is translated, and a frame to another station is not', () => {
      deviceMap().set(devices.lxc1, { routeDev: devices.lxc1, bridgeMac: BRIDGE_MAC, flags: DeviceFlag.bridgePort });
      expectRefused({}, (frame) => frame.set(OTHER_MAC));
      expect(read(send(to(BRIDGE_MAC)).packet).destination).toBe(pod(2));
    });

    test('on a port of a bridge, the reply of a flow is addressed to the bridge, and other packets to another station are not', () => {
      deviceMap().set(devices.lxc2, { routeDev: devices.lxc2, bridgeMac: BRIDGE_MAC, flags: DeviceFlag.bridgePort });
      const sent = read(loaded.forward('tc_pod_in', to(deviceMac), { ifindex: devices.lxc1 }).packet);
      expect(sent.destination).toBe(pod(2));
      const reply = request({ source: pod(2), destination: pod(1), sourcePort: 8080, destinationPort: 40_000 });
      const lifted = send(to(OTHER_MAC, reply), 'tc_pod_in', devices.lxc2);
      expect({ verdict: lifted.verdict, packet: lifted.packet }).toEqual({ verdict: TC_ACT_UNSPEC, packet: to(BRIDGE_MAC, reply) });
      const other = { ...reply, destinationPort: 40_001 };
      expect(send(to(OTHER_MAC, other), 'tc_pod_in', devices.lxc2).packet).toEqual(to(OTHER_MAC, other));
      // The same reply on a device that is not a port is for another station.
      expect(send(to(OTHER_MAC, reply), 'tc_pod_in', devices.lxc3).packet).toEqual(to(OTHER_MAC, reply));
    });
  });

  if (protocol === 'UDP') {
    test('the ICMP answers of each device have a budget of their own', { retry: 2 }, () => {
      const limits = loaded.datapath.map('lb_limits');
      for (const [key] of [...limits.entries()]) limits.delete(key);
      const refuse = (ifindex: number): number => send(build(request({ destination: deadVip })), 'tc_pod_in', ifindex).verdict;
      const answers = Array.from({ length: BUDGET + 50 }, () => refuse(devices.lxc1)).filter((verdict) => verdict === TC_ACT_REDIRECT);
      // The window of 4.29 s may end meanwhile.
      expect([BUDGET, BUDGET + 50]).toContain(answers.length);
      expect(refuse(devices.lxc2)).toBe(TC_ACT_REDIRECT);
    });
  }
});
