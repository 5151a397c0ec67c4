// SPDX-License-Identifier: Apache-2.0
// Runs once before the cluster tests, outside of any time limit: the programs that they start are built if they are not there.
import { buildTools } from './tools.ts';

export function setup(): void {
  buildTools();
}
