// SPDX-License-Identifier: Apache-2.0
// The fast reader of endpoints returns the same row as the schema for each endpoint that it accepts, and accepts the form
// that controllers write.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { plainEndpoint, readEndpoint } from '../../../daemon/source/convert/endpoint-slice.ts';
import { sliceOf } from '../../bench/scale/objects.ts';

const at = { kind: 'EndpointSlice', object: 'default/web', path: ['endpoints', 0] };
const odd = fc.constantFrom<unknown[]>(undefined, null, '', 0, 1, [], {}, true);
const address = fc.constantFrom('10.0.0.1', '255.255.255.255', '010.0.0.1', '10.0.0.256', 'fd00::1', 'FD00:0::1', '::ffff:10.0.0.1', 'no');
const usually = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<unknown> =>
  fc.oneof({ weight: 12, arbitrary: value }, { weight: 1, arbitrary: odd });
const flag = usually(fc.boolean());
const hints = fc.record({ forZones: usually(fc.array(fc.record({ name: fc.string() }), { maxLength: 2 })), forNodes: odd });
const endpoint = usually(
  fc.record(
    {
      addresses: usually(fc.oneof(fc.tuple(usually(address)), fc.array(usually(address), { maxLength: 3 }))),
      conditions: usually(fc.record({ ready: flag, serving: flag, terminating: flag }, { requiredKeys: [] })),
      nodeName: usually(fc.string()),
      hints: fc.oneof({ weight: 12, arbitrary: fc.constant(undefined) }, usually(hints)),
      zone: usually(fc.string()),
      targetRef: odd,
    },
    { requiredKeys: [] },
  ),
);

test('the fast reader returns the same row as the schema for each endpoint that it accepts', () => {
  let accepted = 0;
  const property = fc.property(endpoint, fc.constantFrom('IPv4' as const, 'IPv6' as const), (raw, family) => {
    const plain = plainEndpoint(raw, family);
    if (plain === undefined) return;
    accepted += 1;
    expect(plain).toStrictEqual(readEndpoint(raw, family, at));
  });
  fc.assert(property, { numRuns: 20_000 });
  expect(accepted).toBeGreaterThan(500);
});

test('the fast reader accepts an endpoint in the form in which the controller writes it', () => {
  const [raw] = sliceOf(7, 10).endpoints;
  expect(plainEndpoint(raw, 'IPv4')).toEqual({
    address: '10.128.0.70',
    ready: true,
    serving: true,
    terminating: false,
    nodeName: 'node-70',
  });
});
