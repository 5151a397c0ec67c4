// SPDX-License-Identifier: Apache-2.0
// The programs of `sluice explain` write nothing to the flow table, even about a packet of a flow whose source is not drawn yet. The test must
// compare the whole table. Both IP families.
import { afterAll, expect, test } from 'vitest';
import { ExplainPrograms } from '../../daemon/explain/programs.ts';
import { backendRow, frontendRow } from '../support/builders.ts';
import { devices, type Loaded, objectsPath } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { build, type Packet, tcpFlags } from './packet.ts';

let loaded: Loaded;
let programs: ExplainPrograms;

loadForFile((it) => {
  loaded = it;
  programs = ExplainPrograms.load({ objectsPath, reuse: loaded.datapath.mapFds() });
});
afterAll(() => programs.close());

test.for([
  { family: 'IPv4', map: 'ct4', node: '10.0.0.1', client: '10.0.0.7', backend: '10.244.1.2' },
  { family: 'IPv6', map: 'ct6', node: 'fd00:10::1', client: 'fd00:10::7', backend: 'fd00:244:1::2' },
] as const)('$family: explain does not draw the source of a flow', ({ family, map, node, client, backend }) => {
  const frontends = [frontendRow(node, { port: 30_080, type: 'NodePort' })];
  const names = { key: `default/web:/TCP/${family}`, namespace: 'default', name: 'web', portName: '', protocol: 'TCP' } as const;
  loaded.apply([{ ...names, family, frontends, backends: [backendRow(backend)], affinitySeconds: 0, sourceRanges: [] }]);
  const packet: Packet = {
    ...{ protocol: 'TCP', source: client, sourcePort: 40_000, destination: node, destinationPort: 30_080, flags: tcpFlags.SYN },
  };
  const inside = loaded.run('tc_uplink_in', build(packet), { ifindex: devices.eth0 }).packet;
  const rows = (): string[] => [...loaded.datapath.map(map).entries()].map((row) => Buffer.concat([...row]).toString('hex')).toSorted();
  const before = rows();
  programs.run('uplink_out', inside, devices.eth0);
  expect(rows()).toEqual(before);
});
