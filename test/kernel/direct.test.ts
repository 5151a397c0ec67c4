// SPDX-License-Identifier: Apache-2.0
// Direct traffic between a client and a backend that has the tuple of an earlier flow of a Service. Each test runs single packets through
// the real programs. The test must not open a flow other than through a frontend. Both IP families.
import { beforeEach, describe, expect, test } from 'vitest';
import type { Family } from '../../daemon/model/address.ts';
import type { Backend, DesiredPort, Frontend } from '../../daemon/model/frontend.ts';
import { backendRow, frontendRow } from '../support/builders.ts';
import { devices, type Loaded, plainHost } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, type Packet, read, tcpFlags } from './packet.ts';

const { SYN, ACK } = tcpFlags;
/** Longer than every timeout except that of an established connection, in units of flow_now(). */
const LONG = 40;

let loaded: Loaded;

loadForFile((it) => {
  loaded = it;
});

describe.each(['IPv4', 'IPv6'] as const)('%s', (family: Family) => {
  const four = family === 'IPv4';
  const vip = four ? '10.96.0.10' : 'fd00:96::10';
  const node = four ? '10.0.0.1' : 'fd00:10::1';
  const outside = four ? '10.0.0.7' : 'fd00:10::7';
  const pod = (n: number): string => (four ? `10.244.1.${n}` : `fd00:244:1::${n}`);

  const port = (frontend: Frontend, backends: readonly Backend[]): DesiredPort => ({
    ...{ key: `default/web:/${frontend.protocol}/${family}`, namespace: 'default', name: 'web', portName: '', protocol: frontend.protocol },
    ...{ family, frontends: [frontend], backends, affinitySeconds: 0, sourceRanges: [] },
  });
  /** Runs a packet of pod 1 or pod 2 through the node. */
  const send = (packet: Packet): Packet => {
    const at = packet.source === pod(2) ? devices.lxc2 : packet.source === outside ? devices.eth0 : devices.lxc1;
    return read(loaded.forward(packet.source === outside ? 'tc_uplink_in' : 'tc_pod_in', build(packet), { ifindex: at }).packet);
  };
  const answerTo = (sent: Packet, fields: Partial<Packet> = {}): Packet => ({
    ...{ protocol: sent.protocol, source: sent.destination, destination: sent.source, flags: SYN | ACK },
    ...{ sourcePort: sent.destinationPort ?? 0, destinationPort: sent.sourcePort ?? 0 },
    ...fields,
  });

  beforeEach(() => {
    loaded.forgetFlows();
    loaded.applyHost(plainHost, [{ set: 'node', cidr: `${node}/${four ? 32 : 128}` }]);
  });

  test.for([
    { name: 'a UDP flow that is idle', protocol: 'UDP', flags: 0 },
    { name: 'a connection that the backend never answered', protocol: 'TCP', flags: SYN },
  ] as const)('packets with the tuple of $name are unchanged in both directions', ({ protocol, flags }) => {
    for (const client of [pod(1), outside]) {
      const frontend =
        client === outside ? frontendRow(node, { port: 30_080, protocol, type: 'NodePort' }) : frontendRow(vip, { protocol });
      loaded.apply([port(frontend, [backendRow(pod(2))])]);
      const request: Packet = {
        ...{ protocol, source: client, sourcePort: 40_000, destination: frontend.address, destinationPort: frontend.port, flags },
      };
      expect(send(request).destination).toBe(pod(2));
      loaded.ageFlows(LONG);
      const direct: Packet = { ...request, destination: pod(2), destinationPort: 8080 };
      expect(send(direct)).toMatchObject({ source: client, sourcePort: 40_000, destination: pod(2) });
      expect(send(answerTo(direct))).toMatchObject({ source: pod(2), sourcePort: 8080, destination: client });
    }
  });
});
