// SPDX-License-Identifier: Apache-2.0
// A check of the host that changes nothing. host/ and bpf/ export the checks of what they need. A start runs the checks that can
// reject it, and `sluice preflight` runs all checks.

export interface Check {
  /** "kernel", "uplink eth0". */
  readonly name: string;
  /**
   * Returns what was found. Throws an ExitError, with the next step, when sluiced could not start, and a CheckWarning when it could
   * start but not serve everything.
   */
  readonly run: () => string;
}

/** A problem in spite of which sluiced can start. */
export class CheckWarning extends Error {
  override readonly name = 'CheckWarning';
}
