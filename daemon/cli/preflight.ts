// SPDX-License-Identifier: Apache-2.0
// `sluice preflight`: runs the checks of offline/preflight.ts with the settings that sluiced would have, and prints the results. Needs no
// daemon and changes nothing. If the API server is the source, sends requests to it. Called by main.ts.
import { printable, printableJson } from '../base/printable.ts';
import { parseConfig } from '../config/resolve.ts';
import { readSettingsText } from '../config/sources.ts';
import { type CheckResult, preflight } from '../offline/preflight.ts';

export interface PreflightOptions {
  /** Flags of sluiced. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isJson: boolean;
  readonly print: (text: string) => void;
}

const stateNames = { ok: 'Ok', warning: 'Warning', failed: 'Failed', skipped: 'Skipped' } as const;

/** Returns the exit code: 0, or the exit code of the first check that failed. Throws ExitError when the settings are invalid. */
export async function runPreflight({ argv, env, isJson, print }: PreflightOptions): Promise<number> {
  const config = parseConfig(argv, env, readSettingsText);
  const checks = await preflight(config, env);
  const exitCode = checks.find(({ state }) => state === 'failed')?.exitCode ?? 0;
  print(isJson ? `${printableJson(JSON.stringify({ ok: exitCode === 0, exitCode, checks }, undefined, 2))}\n` : preflightText(checks));
  return exitCode;
}

function preflightText(checks: readonly CheckResult[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length)) + 1;
  return checks
    .map(({ name, state, message }) => `${`${name}:`.padEnd(width)}   ${stateNames[state].padEnd(7)}   ${printable(message)}\n`)
    .join('');
}
