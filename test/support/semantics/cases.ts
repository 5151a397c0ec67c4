// SPDX-License-Identifier: Apache-2.0
// Every case of kube-proxy-semantics.md, in its order.
import type { SemanticsCase } from './case.ts';
import { endpointCases } from './endpoint-cases.ts';
import { frontendCases } from './frontend-cases.ts';
import { policyCases } from './policy-cases.ts';

const section = ({ name }: SemanticsCase): number => Number.parseInt(name, 10);

export const semanticsCases: readonly SemanticsCase[] = [...frontendCases, ...policyCases, ...endpointCases].toSorted(
  (a, b) => section(a) - section(b),
);
