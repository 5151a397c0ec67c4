// SPDX-License-Identifier: Apache-2.0
// All packet cases of test/README.md, part B, in the order of its sections. Used by the tests of the oracle, of the explain
// programs and of the kernel's programs. A case must not be left out here: each of these tests runs the whole list.
import type { SemanticsCase } from './case.ts';
import { endpointCases } from './endpoint-cases.ts';
import { frontendCases } from './frontend-cases.ts';
import { policyCases } from './policy-cases.ts';

const section = ({ name }: SemanticsCase): number => Number.parseInt(name, 10);

export const semanticsCases: readonly SemanticsCase[] = [...frontendCases, ...policyCases, ...endpointCases].toSorted(
  (a, b) => section(a) - section(b),
);
