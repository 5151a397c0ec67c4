// SPDX-License-Identifier: Apache-2.0
// `sluice uninstall`: prints what offline/uninstall.ts removes. It works only while no daemon runs. Called by main.ts. This module
// loads kernel/, so main.ts loads it only for this command.
import { ExitCode } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import { uninstall, type UninstallInput } from '../offline/uninstall.ts';

export interface UninstallOptions extends UninstallInput {
  readonly print: (line: string) => void;
}

/** Returns the exit code: 0 when nothing is left or --dry-run was given, 1 when an item could not be removed. Throws ExitError. */
export function runUninstall({ print, ...input }: UninstallOptions): number {
  let count = 0;
  let failures = 0;
  for (const { item, outcome, error } of uninstall(input)) {
    count += 1;
    if (outcome === 'not removed') failures += 1;
    print(printable(outcome === 'not removed' ? `not removed: ${item}: ${error}` : `${outcome} ${item}`));
  }
  if (count === 0) print('nothing to remove');
  return failures === 0 ? ExitCode.ok : ExitCode.failure;
}
