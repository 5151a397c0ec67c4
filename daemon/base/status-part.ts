// SPDX-License-Identifier: Apache-2.0
// What a folder of daemon/ contributes to the status of the agent. It reports facts; only status/ decides how severe they are.

export interface StatusPart {
  /** One message for each thing that is wrong now, with the next step. May read from the kernel. */
  problems(): readonly string[];
}
