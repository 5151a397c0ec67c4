// SPDX-License-Identifier: Apache-2.0
// Tests which connection is closed when there are too many.
import { describe, expect, test } from 'vitest';

import { ConnectionShares, sourceOf } from '../../../daemon/base/connection-shares.ts';

function world(limits: { total: number; perSource: number }) {
  const closed: string[] = [];
  const shares = new ConnectionShares<{ destroy(): void }>(limits);
  const open = (name: string, source: string): { destroy(): void } => {
    const connection = { destroy: () => void closed.push(name) };
    shares.add(connection, source);
    return connection;
  };
  return { shares, open, closed };
}

describe('the share of a source', () => {
  test('a source with too many connections loses its oldest idle one, and no other source loses a connection', () => {
    const { shares, open, closed } = world({ total: 10, perSource: 2 });
    open('other', 'b');
    open('a1', 'a');
    open('a2', 'a');
    expect(closed).toEqual([]);
    open('a3', 'a');
    open('a4', 'a');
    expect([closed, shares.size, shares.closed]).toEqual([['a1', 'a2'], 3, 2]);
  });

  test('a connection that is used becomes the newest, and a busy connection is closed only if none is idle', () => {
    const { shares, open, closed } = world({ total: 10, perSource: 3 });
    const [first, second] = [open('1', 'a'), open('2', 'a')];
    open('3', 'a');
    shares.used(first, true);
    shares.used(second, true);
    shares.used(second, false);
    open('4', 'a');
    open('5', 'a');
    expect(closed).toEqual(['3', '2']);
    open('6', 'a');
    open('7', 'a');
    expect(closed).toEqual(['3', '2', '4', '5']);
  });

  test('if no connection is idle, the busy one that was used least recently is closed', () => {
    const { shares, open, closed } = world({ total: 10, perSource: 2 });
    const [first, second] = [open('1', 'a'), open('2', 'a')];
    shares.used(second, true);
    shares.used(first, true);
    open('3', 'a');
    expect(closed).toEqual(['2']);
  });

  test('a connection that is closed frees its place only once', () => {
    const { shares, open, closed } = world({ total: 10, perSource: 2 });
    const first = open('1', 'a');
    open('2', 'a');
    shares.remove(first);
    shares.remove(first);
    open('3', 'a');
    expect([closed, shares.size]).toEqual([[], 2]);
    open('4', 'a');
    expect(closed).toEqual(['2']);
  });
});

test('if all sources together have too many connections, the source with the most connections loses its oldest idle one', () => {
  const { open, closed } = world({ total: 5, perSource: 3 });
  open('a1', 'a');
  for (const name of ['b1', 'b2', 'b3']) open(name, 'b');
  open('c1', 'c');
  open('d1', 'd');
  expect(closed).toEqual(['b1']);
});

test('if every source has one connection, the oldest idle connection of all is closed', () => {
  const { open, closed } = world({ total: 3, perSource: 3 });
  for (const name of ['a', 'b', 'c', 'd', 'e']) open(name, name);
  expect(closed).toEqual(['a', 'b']);
});

test.for([
  { address: '192.0.2.7', want: '192.0.2.7' },
  { address: '::ffff:192.0.2.7', want: '192.0.2.7' },
  { address: '::1', want: '0:0:0:0' },
  { address: 'fd00:10::1', want: 'fd00:10:0:0' },
  { address: 'fd00:10::ffff:0:0:1', want: 'fd00:10:0:0' },
  { address: '2001:db8:1:2:3:4:5:6', want: '2001:db8:1:2' },
  { address: 'fe80::1%eth0', want: 'fe80:0:0:0' },
  { address: '::', want: '0:0:0:0' },
  { address: undefined, want: '' },
])('the source of $address is $want', ({ address, want }) => expect(sourceOf(address)).toBe(want));
