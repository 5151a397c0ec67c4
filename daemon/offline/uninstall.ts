// SPDX-License-Identifier: Apache-2.0
// `sluice uninstall`: the one command that works without the daemon, and only without it. Prints what it removes, or would.
import { messageOf } from '../base/errors.ts';
import { removals } from '../bpf/uninstall.ts';

export interface UninstallOptions {
  readonly pinPath: string;
  readonly socket: string;
  readonly dryRun: boolean;
  readonly print: (line: string) => void;
}

/** Exit code: 0 when all that there was is gone (or was shown), 1 when a part could not be removed; that part is named. */
export async function uninstall(options: UninstallOptions): Promise<number> {
  const found = removals(options);
  if (found.length === 0) options.print('nothing to remove');
  let failures = 0;
  for (const { what, remove } of found) {
    if (options.dryRun) {
      options.print(`would remove ${what}`);
      continue;
    }
    try {
      remove();
      options.print(`removed ${what}`);
    } catch (error) {
      failures += 1;
      options.print(`not removed: ${what}: ${messageOf(error)}`);
    }
  }
  return failures === 0 ? 0 : 1;
}
