// SPDX-License-Identifier: Apache-2.0
// Runs the packet cases of test/README.md, part B, through the oracle on desired rows. test/kernel/semantics.test.ts runs the same
// cases through the BPF programs in the kernel.
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

test('no two cases have the same name', () => {
  expect(new Set(semanticsCases.map(({ name }) => name)).size).toBe(semanticsCases.length);
});
