// SPDX-License-Identifier: Apache-2.0
// What Explain knows about this host. A question to the kernel about attached programs may wait for a lock, so that a request with many
// packets asks it once for each program.
import { expect, test } from 'vitest';
import { ThisHost } from '../../../daemon/explain/this-host.ts';

test('the devices of a program are read once for all packets of a request', () => {
  const asked: string[] = [];
  const host = new ThisHost({
    ...{ devices: [], nodeCidrs: [], podCidrs: [] },
    devicesWith: (program) => {
      asked.push(program);
      return ['lo'];
    },
  });
  const question = { origin: 'pod', source: '10.244.1.1', destination: '10.96.0.10', iface: 'lo' } as const;
  for (let packet = 0; packet < 128; packet += 1) {
    expect(host.deviceOf({ ...question, hook: 'pod_in' })).toEqual({ ifindex: 1, program: 'tc_pod_in', problem: undefined });
  }
  host.deviceOf({ ...question, hook: 'uplink_in' });
  expect(asked).toEqual(['tc_pod_in', 'tc_uplink_in']);
});
