// SPDX-License-Identifier: Apache-2.0
// Every statement of kube-proxy-semantics.md that is a packet's fate, through the desired rows and the oracle. The same
// table runs through the kernel's programs in test/kernel.
import { expect, test } from 'vitest';
import { trace } from '../../support/oracle.ts';
import { desiredOf } from '../../support/semantics/case.ts';
import { semanticsCases } from '../../support/semantics/cases.ts';

test.for(semanticsCases)('$name', ({ cluster, packets }) => {
  const world = desiredOf(cluster);
  for (const { packet, want } of packets) {
    const { sourceIP, destIP, destPort, protocol } = packet;
    expect(trace(world, packet), `${sourceIP} -> ${destIP} ${destPort}/${protocol}`).toMatchObject(want);
  }
});

test('every case has a name of its own', () => {
  expect(new Set(semanticsCases.map(({ name }) => name)).size).toBe(semanticsCases.length);
});
