// SPDX-License-Identifier: Apache-2.0
// Sends 100 MB through every path that translates packets. The hashes of sender and receiver must be equal, because every byte must
// arrive unchanged. Large segments (GSO, GRO) go through all of these paths.
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, remoteAddresses } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';

const script = join(import.meta.dirname, '../support/lab/bulk.ts');
const MEGABYTES = 100;
const remoteVips = { IPv4: '10.96.0.77', IPv6: 'fd00:96::77' };

let lab: Lab;
const receivers: Record<string, LabProcess> = {};

beforeAll(async () => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  lab.addRemotePod();
  for (const netns of ['pod1', 'remote']) {
    receivers[netns] = lab.start(netns, [process.execPath, script, 'receive', '8080']);
    await receivers[netns].line((line) => line === 'listening');
  }
  const daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
  daemon.write('remote.yaml', service('remote', remoteVips), ...slices('remote', [remoteAddresses]));
  await daemon.start({ hasSocketLb: false });
});

afterAll(() => lab.close());

const paths = [
  { path: 'pod to pod', from: 'pod9', to: 'pod1', addresses: vips },
  { path: 'pod to pod on another node', from: 'pod9', to: 'remote', addresses: remoteVips },
  { path: 'node to pod', from: 'node', to: 'pod1', addresses: vips },
  { path: 'a pod to itself', from: 'pod1', to: 'pod1', addresses: vips },
];

test.for(paths.flatMap((each) => (['IPv4', 'IPv6'] as const).map((family) => ({ ...each, family }))))(
  'every byte arrives unchanged: $path, $family',
  async ({ from, to, addresses, family }) => {
    const receiver = receivers[to];
    const before = receiver?.lines.length ?? 0;
    const sender = lab.start(from, [process.execPath, script, 'send', addresses[family], '80', String(MEGABYTES)]);
    const sent = await sender.line((line) => /^[0-9a-f]{64}$/.test(line));
    expect(await receiver?.line((line) => /^[0-9a-f]{64}$/.test(line), before)).toBe(sent);
  },
);
