// SPDX-License-Identifier: Apache-2.0
// The rule that --accept-forwarded keeps in nftables, and the chains that are found to drop forwarded packets, in nftables and in
// iptables-legacy. The test uses a private network namespace.
import { execFileSync } from 'node:child_process';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { forwardCheck, legacyProblems } from '../../daemon/firewall/forward-hook.ts';
import { ForwardRules, ownRules } from '../../daemon/firewall/forward-rules.ts';
import { families } from '../../daemon/model/address.ts';
import { FakeClock } from '../support/fake-clock.ts';
import { setLegacyForward } from '../support/iptables-legacy.ts';
import { newNetns } from '../support/kernel.ts';

const PERIOD_MS = 10_000;

beforeAll(() => newNetns());
afterEach(() => void nft('flush ruleset'));

const nft = (...commands: readonly string[]): string => execFileSync('nft', ['-f', '-'], { input: commands.join('\n'), encoding: 'utf8' });

/** The rules of a chain without counters, in order. */
const rules = (family: string, table: string, chain: string): string[] =>
  execFileSync('nft', ['list', 'chain', family, table, chain], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.trim().replace(/counter packets \d+ bytes \d+ /, ''))
    .filter((line) => line !== '' && !/^(table|chain|type|\})/.test(line));

const own = 'meta mark & 0x00004000 == 0x00004000 accept comment "sluice --accept-forwarded"';
const forward = (policy: string): string => `{ type filter hook forward priority 0; policy ${policy}; }`;

function follow(isAccepting: boolean) {
  const clock = new FakeClock();
  const repaired: string[] = [];
  const firewall = new ForwardRules({ isAccepting, clock, periodMs: PERIOD_MS, onRepaired: (message) => void repaired.push(message) });
  /** Lets one period pass, and waits until the rules were compared. */
  const look = async (): Promise<void> => {
    clock.advance(PERIOD_MS);
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  };
  return { firewall, repaired, look };
}

const tables = [
  'add table ip filter',
  `add chain ip filter FORWARD ${forward('drop')}`,
  'add rule ip filter FORWARD ip saddr 192.0.2.1 drop',
  'add table inet open',
  `add chain inet open forward ${forward('accept')}`,
  'add rule inet open forward ip saddr 192.0.2.1 drop',
  'add table ip6 rejecting',
  `add chain ip6 rejecting forward ${forward('accept')}`,
  'add rule ip6 rejecting forward tcp dport 22 accept',
  'add rule ip6 rejecting forward counter log reject with icmpv6 admin-prohibited',
  'add table inet local',
  'add chain inet local input { type filter hook input priority 0; policy drop; }',
  'add chain inet local forward',
  'add table bridge filter',
  `add chain bridge filter FORWARD ${forward('drop')}`,
];

test('the rule is added where packets are dropped, after other rules and before one that drops everything, and is kept', async () => {
  nft(...tables);
  const { firewall, repaired, look } = follow(true);
  await firewall.start();
  const expected = (): void => {
    expect(rules('ip', 'filter', 'FORWARD')).toEqual(['ip saddr 192.0.2.1 drop', own]);
    expect(rules('ip6', 'rejecting', 'forward')).toEqual(['tcp dport 22 accept', own, 'log reject with icmpv6 admin-prohibited']);
    expect([...rules('inet', 'open', 'forward'), ...rules('inet', 'local', 'input'), ...rules('inet', 'local', 'forward')]).toEqual([
      'ip saddr 192.0.2.1 drop',
    ]);
    expect(rules('bridge', 'filter', 'FORWARD')).toEqual([]);
    expect(firewall.problems()).toEqual([]);
  };
  expected();
  await look();
  expected();
  expect(repaired).toEqual([]);
  nft('flush chain ip filter FORWARD', 'add rule ip filter FORWARD ip saddr 192.0.2.1 drop');
  await look();
  expected();
  expect(repaired).toEqual(['the chain FORWARD of the nftables table ip filter: the rule of --accept-forwarded was missing']);
  await firewall.stop();
  expect(
    ownRules()
      .map(({ what }) => what)
      .toSorted(),
  ).toEqual(['rule in the chain FORWARD of the nftables table ip filter', 'rule in the chain forward of the nftables table ip6 rejecting']);
});

test('a rule of others that accepts the mark is enough, but not one with a condition', async () => {
  nft('add table ip filter', `add chain ip filter FORWARD ${forward('drop')}`);
  nft('add rule ip filter FORWARD meta mark and 0x4000 == 0x4000 counter accept');
  const { firewall } = follow(true);
  await firewall.start();
  await firewall.stop();
  expect(ownRules()).toEqual([]);
  nft('flush chain ip filter FORWARD', 'add rule ip filter FORWARD ip saddr 192.0.2.1 meta mark and 0x4000 == 0x4000 accept');
  await firewall.start();
  await firewall.stop();
  expect(ownRules()).toHaveLength(1);
});

test('with the setting off, the rule is removed, and each chain that drops is reported with a command that opens it', async () => {
  nft(...tables);
  const on = follow(true);
  await on.firewall.start();
  await on.firewall.stop();
  const { firewall, look } = follow(false);
  await firewall.start();
  expect(ownRules()).toEqual([]);
  expect(rules('ip', 'filter', 'FORWARD')).toEqual(['ip saddr 192.0.2.1 drop']);
  const problems = firewall.problems();
  expect(problems.map((problem) => problem.slice(0, problem.indexOf(', so ')))).toEqual([
    'the policy of the chain FORWARD of the nftables table ip filter is drop',
    'the last rule of the chain forward of the nftables table ip6 rejecting drops all packets',
  ]);
  expect(() => forwardCheck({ acceptForwarded: false }).run()).toThrow(problems.join('; '));
  expect(forwardCheck({ acceptForwarded: true }).run()).toContain('sluiced will accept translated packets in the chain FORWARD');
  const [, command = ''] = / or run: nft (.*)$/.exec(problems[0] ?? '') ?? [];
  nft(command.replaceAll("'", ''), 'delete table ip6 rejecting');
  await look();
  expect(firewall.problems()).toEqual([]);
  await firewall.stop();
  expect(forwardCheck({ acceptForwarded: false }).run()).toBe('no chain of the forward hook has the policy drop');
});

test.for(families)(
  'the policy and the rule in the older table of %s are found, and a table that does not exist is not created',
  (family) => {
    expect([legacyProblems(false), legacyProblems(true)]).toEqual([[], []]);
    const tool = family === 'IPv4' ? 'iptables-legacy' : 'ip6tables-legacy';
    const table = setLegacyForward(family, { isPolicyDrop: true });
    expect(legacyProblems(false)).toEqual([expect.stringContaining(`the policy of the chain FORWARD of ${tool} is drop`)]);
    expect(legacyProblems(true)).toEqual([expect.stringMatching(`: run: ${tool} -A FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT$`)]);
    table.set({ isPolicyDrop: true, acceptedMark: 0x4000 });
    expect([legacyProblems(false).length, legacyProblems(true)]).toEqual([1, []]);
    table.set({ isPolicyDrop: true, acceptedMark: 0x8000 });
    expect(legacyProblems(true)).toHaveLength(1);
    table.set({ isPolicyDrop: false });
    expect([legacyProblems(false), legacyProblems(true)]).toEqual([[], []]);
  },
);
