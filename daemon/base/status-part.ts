// SPDX-License-Identifier: Apache-2.0
// What a room contributes to the status of the agent. Rooms report facts; status/ alone decides how severe they are.

export interface StatusPart {
  /** What is wrong now, one message each with the next step; empty when nothing is. May read from the kernel. */
  problems(): readonly string[];
}
