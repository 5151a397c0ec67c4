// SPDX-License-Identifier: Apache-2.0
// Replies to clients outside the node where routes depend on the source: the stack has routed the reply by the address of the backend, and
// the program routes it again by the VIP.
import { beforeEach, describe, expect, test } from 'vitest';
import { kernelDevices } from '../../daemon/maps/kernel-maps.ts';
import { DeviceFlag } from '../../daemon/maps/types.ts';
import type { DesiredPort } from '../../daemon/model/frontend.ts';
import { devices, type Loaded } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, type Packet, read, TC_ACT_REDIRECT, TC_ACT_UNSPEC, tcpFlags } from './packet.ts';

let loaded: Loaded;
loadForFile((it) => (loaded = it));

describe.each(['IPv4', 'IPv6'] as const)('%s', (family) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const client = four ? '10.0.0.7' : 'fd00:10::7';
  const pod = four ? '10.244.1.2' : 'fd00:244:1::2';
  const port: DesiredPort = {
    ...{ key: `default/web:web/TCP/${family}`, namespace: 'default', name: 'web', portName: 'web', protocol: 'TCP', family },
    ...{ affinitySeconds: 0, sourceRanges: [] },
    backends: [{ address: pod, port: 8080, isUsable: true, isLocallyUsable: false, isLocal: true, isServing: true }],
    frontends: [{ address: vip, family, port: 80, protocol: 'TCP', type: 'ClusterIP', policy: 'Cluster', hasSourceRanges: false }],
  };
  const request: Packet = {
    ...{ protocol: 'TCP', source: client, destination: vip, sourcePort: 40_000, destinationPort: 80, flags: tcpFlags.SYN },
  };
  const reply: Packet = {
    ...{ protocol: 'TCP', source: pod, destination: client, sourcePort: 8080, destinationPort: 40_000, flags: tcpFlags.SYN | tcpFlags.ACK },
  };
  /** Opens a flow from outside, and sends its reply out of the device. */
  const replyBy = (device: keyof typeof devices): { verdict: number; source: string } => {
    expect(read(loaded.forward('tc_uplink_in', build(request), { ifindex: devices.eth0 }).packet).destination).toBe(pod);
    const at = { ifindex: devices[device], ingressIfindex: devices.lxc2 };
    const { verdict, packet } = loaded.run('tc_uplink_out', build(reply), at);
    return { verdict, source: read(packet).source };
  };
  const setRules = (families: readonly ('IPv4' | 'IPv6')[]): void =>
    kernelDevices((name) => loaded.datapath.map(name)).set(devices.eth0, {
      ...{ routeDev: devices.eth0, bridgeMac: new Uint8Array(6) },
      flags: families.reduce((flags, each) => flags | DeviceFlag.sourceRules[each], 0),
    });

  beforeEach(() => {
    loaded.forgetFlows();
    loaded.apply([port]);
  });

  test('a reply that leaves by another device than the route from the VIP is redirected to that device', () => {
    setRules([family]);
    expect(replyBy('lxc3')).toEqual({ verdict: TC_ACT_REDIRECT, source: vip });
  });

  test('a reply that leaves by the device of the route from the VIP is not redirected', () => {
    setRules([family]);
    expect(replyBy('eth0')).toEqual({ verdict: TC_ACT_UNSPEC, source: vip });
  });

  test('without rules by source for the family, a reply leaves by the device that the stack has chosen', () => {
    setRules([four ? 'IPv6' : 'IPv4']);
    expect(replyBy('lxc3')).toEqual({ verdict: TC_ACT_UNSPEC, source: vip });
  });
});
