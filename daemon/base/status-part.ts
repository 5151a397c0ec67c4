// SPDX-License-Identifier: Apache-2.0
// What a folder of daemon/ contributes to the status of the agent. It reports facts; only status/ decides how severe they are.

export interface StatusPart {
  /** One message for each present problem, with the next step for the operator. May read from the kernel. */
  problems(): readonly string[];
}

/** A part that also describes its state when it has no problems. */
export interface SummaryPart extends StatusPart {
  /** A short description of the present state: "1 uplink, 3 pod interfaces". */
  summary(): string;
}
