// SPDX-License-Identifier: Apache-2.0
// Runs commands for the lab, synchronously and from argument lists only. An error contains the stderr of the command.
import { execFileSync } from 'node:child_process';

/** Runs a command and returns its standard output. */
export function sh(command: string, ...args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });
  } catch (error) {
    const { stderr = '', code } = error as { stderr?: string; code?: string };
    throw new Error(`${command} ${args.join(' ')}: ${code === 'ENOENT' ? 'not installed' : stderr.trim()}`, { cause: error });
  }
}

/** Runs a command for clean-up and ignores its failure, because the object may not exist any more. */
export function attempt(command: string, ...args: readonly string[]): void {
  try {
    sh(command, ...args);
  } catch {
    // The clean-up continues.
  }
}
