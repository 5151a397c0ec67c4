// SPDX-License-Identifier: Apache-2.0
// Runs once before the cluster tests, without a time limit: builds the programs that they start if they do not exist.
import { buildTools } from './tools.ts';

export function setup(): void {
  buildTools();
}
