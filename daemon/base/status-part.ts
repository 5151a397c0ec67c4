// SPDX-License-Identifier: Apache-2.0
// What a folder of daemon/ contributes to the status of the agent. It reports facts; only status/ decides how severe they are.

export interface StatusPart {
  /** One message for each thing that is wrong now, with the next step. May read from the kernel. */
  problems(): readonly string[];
}

/** A part that also says what is the case when nothing is wrong. */
export interface SummaryPart extends StatusPart {
  /** A few words that follow from facts: "1 uplink, 3 pod interfaces". */
  summary(): string;
}
