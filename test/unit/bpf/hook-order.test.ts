// SPDX-License-Identifier: Apache-2.0
// The messages about programs of other owners beside ours on a hook: which places are reported, and that hundreds of hooks with the same
// program give one message.
import { expect, test } from 'vitest';
import { type Neighbour, orderFindings } from '../../../daemon/bpf/hook-order.ts';

const neighbour = (change: Partial<Neighbour>): Neighbour => ({
  ...{ name: 'the program theirs', hook: 'tc_pod_in on lxc1', direction: 'ingress', isBefore: true, isFilter: false },
  ...change,
});

test.for<{ what: string; change: Partial<Neighbour>; displaced: number; ahead: number }>([
  { what: 'before ours at ingress', change: { direction: 'ingress', isBefore: true }, displaced: 1, ahead: 0 },
  { what: 'after ours at ingress', change: { direction: 'ingress', isBefore: false }, displaced: 0, ahead: 0 },
  { what: 'before ours at egress', change: { direction: 'egress', isBefore: true }, displaced: 0, ahead: 1 },
  { what: 'after ours at egress', change: { direction: 'egress', isBefore: false }, displaced: 1, ahead: 0 },
])('a program $what gives $displaced messages about the place and $ahead about the order', ({ change, displaced, ahead }) => {
  const found = orderFindings([neighbour(change)]);
  expect([found.displaced.length, found.ahead.length]).toEqual([displaced, ahead]);
});

test('the same program on many hooks gives one message with a bounded number of hooks', () => {
  const hooks = Array.from({ length: 250 }, (_, n) => neighbour({ hook: `tc_pod_out on lxc${n}`, direction: 'egress' }));
  const { ahead } = orderFindings([...hooks, neighbour({ name: 'the filter flower', direction: 'egress', hook: 'tc_uplink_out on eth0' })]);
  expect(ahead).toEqual([
    expect.stringMatching(
      /^the program theirs runs before tc_pod_out on lxc0, tc_pod_out on lxc1, tc_pod_out on lxc2 and 247 more: it may/,
    ),
    expect.stringMatching(/^the filter flower runs before tc_uplink_out on eth0: it may/),
  ]);
});
