// SPDX-License-Identifier: Apache-2.0
// The type of a check whether sluiced can run on this host. A check changes nothing. host/, bpf/ and source/ export the checks of what they
// need. The start of sluiced runs only the checks whose failure must prevent it, and `sluice preflight` runs all checks.

export interface Check {
  /** "kernel", "uplink eth0". */
  readonly name: string;
  /**
   * Returns what was found. Throws an ExitError, with the next step, when sluiced could not start, a CheckWarning when sluiced could start
   * but not serve everything, and a CheckSkipped when there is nothing to check.
   */
  readonly run: () => string;
}

/** A problem that does not prevent the start of sluiced. */
export class CheckWarning extends Error {
  override readonly name = 'CheckWarning';
}

/** The check was not made. The message says why. */
export class CheckSkipped extends Error {
  override readonly name = 'CheckSkipped';
}

/** Runs the checks that a start must pass. Throws the ExitError of the first one that fails. */
export function requireAll(checks: readonly Check[]): void {
  for (const { run } of checks) {
    try {
      run();
    } catch (error) {
      if (!(error instanceof CheckWarning || error instanceof CheckSkipped)) throw error;
    }
  }
}
