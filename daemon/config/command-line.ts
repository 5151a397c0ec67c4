// SPDX-License-Identifier: Apache-2.0
// Evaluates the command line of sluiced. Returns the settings to run with. If the command line asks only for a text, prints the text and
// returns undefined. Called by main.ts, which passes argv, the environment, the file reader and the print function.
import { helpText, type ProgramVersions, resolvedText, versionText } from './help.ts';
import { type Invocation, parseInvocation } from './resolve.ts';
import type { Config } from './schema.ts';

interface CommandLine {
  /** The arguments without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
  /** Called only for --version, since it loads libbpf. */
  readonly versions: () => ProgramVersions;
  readonly print: (text: string) => void;
}

/** The settings to run with. When the command line asks only for a text, prints the text and returns undefined. Throws ExitError. */
export function configFromCommandLine({ argv, env, readFile, versions, print }: CommandLine): Config | undefined {
  const invocation = parseInvocation(argv, env, readFile);
  if (invocation.action === 'run') return invocation.config;
  print(textFor(invocation, versions));
  return undefined;
}

function textFor(invocation: Exclude<Invocation, { action: 'run' }>, versions: CommandLine['versions']): string {
  switch (invocation.action) {
    case 'check':
      return resolvedText(invocation.resolved);
    case 'help':
      return helpText();
    case 'version':
      return versionText(versions());
  }
}
