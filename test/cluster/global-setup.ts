// SPDX-License-Identifier: Apache-2.0
// Runs once before the cluster tests, without a time limit: builds the programs of the tests, unless the programs exist.
import { buildTools } from './tools.ts';

export function setup(): void {
  buildTools();
}
