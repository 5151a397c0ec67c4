// SPDX-License-Identifier: Apache-2.0
// The check of preflight that warns about Service CIDRs in the settings which contain other addresses.
import { expect, test } from 'vitest';
import { CheckWarning } from '../../../daemon/base/check.ts';
import { serviceCidrChecks } from '../../../daemon/host/checks.ts';

function resultsOf(serviceCidr: string[], clusterCidr: string[] = []): string[] {
  return serviceCidrChecks({ serviceCidr, clusterCidr }).map(({ name, run }) => {
    try {
      return `${name}: ${run()}`;
    } catch (error) {
      return error instanceof CheckWarning ? `${name} warning: ${error.message}` : String(error);
    }
  });
}

test('a Service CIDR that contains pod addresses or every address is a warning, and any other is not', () => {
  expect(resultsOf(['198.18.0.0/24', '2001:db8::/64', '198.19.0.0/24', '::/0'], ['198.18.0.128/25', '2001:db8::/32'])).toEqual([
    expect.stringMatching(
      /^Service CIDR 198\.18\.0\.0\/24 warning: the Service CIDR .* overlaps the pod addresses 198\.18\.0\.128\/25, and packets/,
    ),
    expect.stringMatching(/^Service CIDR 2001:db8::\/64 warning: .* overlaps the pod addresses 2001:db8::\/32, and packets/),
    'Service CIDR 198.19.0.0/24: contains no address of this node or of pods',
    expect.stringMatching(/^Service CIDR ::\/0 warning: the Service CIDR ::\/0 /),
  ]);
});

test('without a Service CIDR in the settings there is no check', () => {
  expect(resultsOf([])).toEqual([]);
});
