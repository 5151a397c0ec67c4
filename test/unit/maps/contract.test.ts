// SPDX-License-Identifier: Apache-2.0
// The fake maps and the faulty maps fulfil the contract of LbMaps. Faulty maps fail at the requested rate. frontendCheck() returns
// the result of its formula.
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../daemon/base/errors.ts';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { frontendCheck } from '../../../daemon/maps/frontend-check.ts';
import { faultyLbMaps } from '../../support/faulty-maps.ts';
import { contractSizes, testLbMaps } from '../../support/maps-contract.ts';
import { serviceValue } from '../../support/builders.ts';

testLbMaps('fake', () => fakeLbMaps(contractSizes));
testLbMaps('faulty(0)', () => faultyLbMaps(fakeLbMaps(contractSizes), { rate: 0, reads: true }));

describe('faulty maps', () => {
  test.for([
    { name: 'writes fail', reads: false },
    { name: 'reads and writes fail', reads: true },
  ])('if $name, the given share of operations fails, and a failed operation has no effect', ({ reads }) => {
    const inner = fakeLbMaps();
    const faulty = faultyLbMaps(inner, { rate: 0.5, seed: 7, reads });
    let failed = 0;
    for (let index = 1; index <= 1000; index += 1) {
      try {
        faulty.services.set(index, serviceValue({ base: index, count: 1 }));
      } catch (error) {
        expect(error).toBeInstanceOf(KernelError);
        failed += 1;
        expect(inner.services.get(index).count).toBe(0);
      }
    }
    expect(failed).toBeGreaterThan(400);
    expect(failed).toBeLessThan(600);
    const read = (): void => {
      for (let i = 0; i < 100; i += 1) faulty.services.get(1);
    };
    if (reads) expect(read).toThrow(KernelError);
    else expect(read).not.toThrow();
  });
});

describe('frontendCheck', () => {
  // Each case computes the expected value with the formula in 64-bit words. The words of each key are written by hand.
  test.for([
    { key: { address: '10.96.0.10', port: 80, protocol: 6 }, words: [0x0006_5000_0a00_600an] },
    { key: { address: '255.255.255.255', port: 65_535, protocol: 255 }, words: [0x00ff_ffff_ffff_ffffn] },
    {
      key: { address: 'fd00:10:96::a', port: 443, protocol: 17 },
      words: [0x0000_9600_1000_00fdn, 0x0a00_0000_0000_0000n, 0x0011_bb01n],
    },
  ])('frontendCheck of $key.address equals the formula in 64-bit words', ({ key, words }) => {
    const multiply = (a: bigint): bigint => (a * 0x9e37_79b9_7f4a_7c15n) % 2n ** 64n;
    const hash = words.reduce((sum, word, i) => {
      const product = multiply(sum + word);
      return i < words.length - 1 ? product ^ (product >> 32n) : product;
    }, 0n);
    expect(frontendCheck(key)).toBe(Number(hash >> 40n));
  });
});
