// SPDX-License-Identifier: Apache-2.0
// Running commands for the lab: synchronous, argument lists only, an error says what the command printed.
import { execFileSync } from 'node:child_process';

/** Standard output of a command. */
export function sh(command: string, ...args: readonly string[]): string {
  try {
    return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });
  } catch (error) {
    const { stderr = '', code } = error as { stderr?: string; code?: string };
    throw new Error(`${command} ${args.join(' ')}: ${code === 'ENOENT' ? 'not installed' : stderr.trim()}`, { cause: error });
  }
}

/** The same for clean-up: what is gone already is no error. */
export function attempt(command: string, ...args: readonly string[]): void {
  try {
    sh(command, ...args);
  } catch {
    // Cleaning up goes on.
  }
}
