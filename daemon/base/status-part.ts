// SPDX-License-Identifier: Apache-2.0
// What a folder of daemon/ contributes to the status of the agent. It reports facts; only status/ decides how severe they are.

export interface StatusPart {
  /** What is wrong now, one message each with the next step; empty when nothing is. May read from the kernel. */
  problems(): readonly string[];
}
