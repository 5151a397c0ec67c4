// SPDX-License-Identifier: Apache-2.0
// Netlink under load: more events than the socket holds, and dumps while devices appear and disappear. The tests use a private
// network namespace.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { KernelError } from '../../daemon/base/errors.ts';
import { systemClock } from '../../daemon/base/clock.ts';
import { NetlinkSocket } from '../../daemon/kernel/netlink.ts';
import type { DeviceSubnet, NetworkDevice } from '../../daemon/model/device.ts';
import { Links } from '../../daemon/source/netlink/links.ts';
import { LocalAddresses } from '../../daemon/source/netlink/local-addresses.ts';
import type { LocalAddress } from '../../daemon/model/host.ts';
import type { MasqueradeSource } from '../../daemon/model/masquerade.ts';
import { Table } from '../../daemon/table/table.ts';
import { enterNamespace, ip } from './fixture.ts';

const RTM_GETLINK = 18;
const NLM_F_DUMP_INTR = 0x10;
const logged: string[] = [];
const log = { info: (_fields: unknown, message = '') => void logged.push(message), error: () => undefined };
const options = { clock: systemClock, log: log as never };

beforeAll(() => enterNamespace());
afterEach(() => void logged.splice(0));

const batch = (lines: readonly string[]): void => void execFileSync('ip', ['-batch', '-'], { input: lines.join('\n') });

/** Waits until a condition is met after netlink events. The time limit only ends a test in which no event arrives. */
async function until(is: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !is();) {
    if (Date.now() > end) throw new Error(`${what}: not within 20 s`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('when device events are lost, the devices are listed again, and later events arrive', async () => {
  const table = new Table<number, NetworkDevice>('links', setImmediate);
  const links = new Links(table, options);
  links.start();
  const names = (): Set<string> => new Set([...table.all()].map(([, { name }]) => name));
  for (let round = 0; round < 2; round += 1) {
    const name = `flood${round}`;
    // This process cannot read events until the command has ended.
    batch([
      ...[`link add ${name} type veth peer name p${name}`],
      ...Array.from({ length: 4000 }, (_, i) => `link set ${name} mtu ${1400 + (i % 2)}`),
      ...[`link set ${name} name last${round}`],
    ]);
    await until(() => names().has(`last${round}`), 'the last change is in the table');
    expect(logged.splice(0).join()).toContain('events about the network devices were lost');
    ip('link', 'add', `after${round}`, 'type', 'veth', 'peer', 'name', `pafter${round}`);
    await until(() => names().has(`after${round}`), 'a later device is in the table');
    ip('link', 'delete', `after${round}`);
    await until(() => !names().has(`after${round}`), 'a later device is not in the table');
    expect(links.problems()).toEqual([]);
  }
  links.stop();
});

test('when address events are lost, the addresses are listed again, and later events arrive', async () => {
  const table = new Table<string, LocalAddress>('addresses', setImmediate);
  const subnets = new Table<number, DeviceSubnet>('subnets', setImmediate);
  const sources = new Table<string, MasqueradeSource>('sources', setImmediate);
  const addresses = new LocalAddresses({ addresses: table, subnets, sources }, options);
  addresses.start();
  ip('link', 'add', 'many', 'type', 'veth', 'peer', 'name', 'pmany');
  const added = Array.from({ length: 3000 }, (_, i) => `10.77.${i >> 8}.${i & 255}`);
  batch(added.map((address) => `address add ${address}/32 dev many`));
  await until(() => added.every((address) => table.get(address) !== undefined), 'all addresses are in the table');
  expect(logged.join()).toContain('events about the addresses were lost');
  ip('address', 'add', '10.78.0.1/32', 'dev', 'many');
  await until(() => table.get('10.78.0.1') !== undefined, 'a later address is in the table');
  ip('link', 'delete', 'many');
  await until(() => added.every((address) => table.get(address) === undefined), 'no address is in the table');
  addresses.stop();
});

test('a dump that the kernel marks as interrupted is never used', async () => {
  const stable = Array.from({ length: 200 }, (_, i) => `stable${i}`);
  batch(stable.map((name) => `link add ${name} group 7 type veth peer name p${name}`));
  const churn = spawn('sh', ['-c', 'while ip link add churn type veth peer name pchurn && ip link delete churn; do :; done'], {
    stdio: 'ignore',
  });
  try {
    for (let count = 0; count < 400; count += 1) {
      const socket = new NetlinkSocket();
      try {
        const messages = socket.dump(RTM_GETLINK, new Uint8Array(16), 'links');
        expect(messages.filter(({ flags }) => (flags & NLM_F_DUMP_INTR) !== 0).length).toBe(0);
        expect(messages.length).toBeGreaterThanOrEqual(2 * stable.length);
      } catch (error) {
        // EINTR means that every attempt at the dump was interrupted. The callers retry after this error.
        if (!(error instanceof KernelError) || error.code !== 'EINTR') throw error;
      } finally {
        socket.close();
      }
      await new Promise(setImmediate);
    }
  } finally {
    churn.kill('SIGKILL');
    await once(churn, 'exit');
  }
  batch(['link delete group 7']);
});
