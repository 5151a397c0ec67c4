// SPDX-License-Identifier: Apache-2.0
// `sluice uninstall`: prints what offline/uninstall.ts removes and what it leaves. Called by main.ts. This module loads kernel/, so
// main.ts loads it only for this command.
import { ExitCode } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import { uninstall, type UninstallInput } from '../offline/uninstall.ts';

export interface UninstallOptions extends UninstallInput {
  readonly print: (line: string) => void;
}

/** Returns the exit code: 0 when everything was removed or would be, 1 when something is left. Throws ExitError. */
export function runUninstall({ print, ...input }: UninstallOptions): number {
  const { results, daemon, openFlows } = uninstall(input);
  let count = 0;
  let kept = 0;
  for (const { item, outcome, reason } of results) {
    count += 1;
    if (reason !== '') kept += 1;
    print(printable(reason === '' ? `${outcome} ${item}` : `${outcome === 'not removed' ? 'not removed:' : outcome} ${item}: ${reason}`));
  }
  if (count === 0) print('nothing to remove');
  if (daemon !== undefined)
    print(`sluiced${daemon === 0 ? '' : ` (pid ${daemon})`} is running with this pin path: stop it before the uninstall`);
  if (openFlows !== '' && !input.isForced)
    print(`${openFlows}: the uninstall will be refused until they have ended, unless --force is given`);
  return kept === 0 ? ExitCode.ok : ExitCode.failure;
}
