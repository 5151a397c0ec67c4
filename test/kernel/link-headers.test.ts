// SPDX-License-Identifier: Apache-2.0
// The link-layer header of a device, as netlink describes the device. The type of a TUN device can be set to that of any other device, so
// that no kernel module for the others is needed.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { links } from '../../daemon/kernel/rtnetlink.ts';
import { newNetns } from '../support/kernel.ts';
import type { TunOptions } from '../support/lab/tun.ts';
import { ip } from './fixture.ts';

const script = join(import.meta.dirname, '../support/lab/tun.ts');
const children: ChildProcess[] = [];

beforeAll(() => {
  newNetns();
  ip('link', 'set', 'lo', 'up');
});

afterAll(() => children.forEach((child) => child.kill()));

interface Case {
  readonly name: string;
  /** ARPHRD_*, from linux/if_arp.h. */
  readonly type: number;
  readonly want: string;
  /** Broadcast address; for GRE it is that of the remote end. */
  readonly broadcast?: string;
}

const none = 'none';
const other = 'other';
const bytes = (first: string, last: string): string => [first, ...Array<string>(14).fill('00'), last].join(':');

test.for<Case>([
  { name: 'ether', type: 1, want: 'ethernet' },
  { name: 'infiniband', type: 32, want: other },
  { name: 'ppp', type: 512, want: none },
  { name: 'rawip', type: 519, want: none },
  { name: 'ipip', type: 768, want: none },
  { name: 'ip6tnl', type: 769, want: none },
  { name: 'sit', type: 776, want: none },
  { name: 'gre', type: 778, want: none, broadcast: '10.0.0.2' },
  { name: 'gre-any', type: 778, want: other },
  { name: 'gre-group', type: 778, want: other, broadcast: '239.1.1.1' },
  { name: 'ip6gre', type: 823, want: none, broadcast: bytes('fd', '02') },
  { name: 'ip6gre-any', type: 823, want: other },
  { name: 'ip6gre-group', type: 823, want: other, broadcast: bytes('ff', '02') },
  { name: 'none', type: 65_534, want: none },
])('of a device of the type $type ($name) it is: $want', async ({ name, type, want, broadcast }) => {
  const options: TunOptions = { device: name, local: '127.0.0.1', remote: '127.0.0.1', port: 5000 + children.length, type };
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  if (broadcast !== undefined) ip('link', 'set', name, 'broadcast', broadcast);
  expect(links().find((link) => link.name === name)?.linkHeader).toBe(want);
});
