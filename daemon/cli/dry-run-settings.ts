// SPDX-License-Identifier: Apache-2.0
// The settings of a dry run: `sluice plan` and `sluice explain --objects` use the daemon's settings, so that they compute what
// a daemon with these flags, this environment and this settings file would serve.
import { parseConfig } from '../config/resolve.ts';
import { readSettingsText } from '../config/sources.ts';
import type { Config } from '../config/schema.ts';

export interface DryRunFlags {
  /** Directory of objects. */
  readonly objects: string;
  /** Settings of sluiced as flags. */
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Throws ExitError when a setting is invalid. */
export function dryRunSettings({ objects, flags, env }: DryRunFlags): Config {
  // parseConfig() requires --source and --node. The dry run does not use these two settings: the directory and the node are its own
  // arguments.
  return parseConfig(['--source', objects, '--node', 'dry-run', ...flags], env, readSettingsText);
}
