// SPDX-License-Identifier: Apache-2.0
// What the daemon prints about its settings and then exits: help, version, the checked settings, and README's table.
// All of it follows from the one schema in config.ts. Pure but for the print function that it is given.
import { allSettings, type Config, type Invocation, parseInvocation, type ResolvedSetting } from './schema.ts';
import { daemonCommand } from './sources.ts';
import { ExitCode } from '../base/errors.ts';

/** What `--version` shows. */
interface ProgramVersions {
  readonly version: string;
  readonly commit: string;
  readonly libbpf: string;
  readonly kernel: string;
}

interface CommandLine {
  /** Without the interpreter and the script. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly readFile: (path: string) => string;
  /** Asked only for --version: libbpf must be loaded to know its own. */
  readonly versions: () => ProgramVersions;
  readonly print: (text: string) => void;
}

/** The settings to run with; or undefined when the command line asked for words only, which are then printed. Throws ExitError. */
export function configFromCommandLine({ argv, env, readFile, versions, print }: CommandLine): Config | undefined {
  const invocation = parseInvocation(argv, env, readFile);
  if (invocation.action === 'run') return invocation.config;
  print(wordsOf(invocation, versions));
  return undefined;
}

function wordsOf(invocation: Exclude<Invocation, { action: 'run' }>, versions: CommandLine['versions']): string {
  switch (invocation.action) {
    case 'check':
      return resolvedText(invocation.resolved);
    case 'help':
      return helpText();
    case 'version':
      return versionText(versions());
  }
}

/** A settings file with the origin of each line. */
function resolvedText(resolved: readonly ResolvedSetting[]): string {
  const lines = resolved.map(({ setting, text, origin }) => {
    const isSet = text !== undefined && text !== '';
    return { left: isSet ? `${setting.name}: ${quoted(text)}` : `# ${setting.name}:`, right: isSet ? origin : `not set` };
  });
  const width = Math.max(...lines.map(({ left }) => left.length));
  return lines.map(({ left, right }) => `${left.padEnd(width)}  # ${right}\n`).join('');
}

/** YAML reads plain words as they stand; what it would not is put in quotes. */
const quoted = (text: string): string => (/^[A-Za-z0-9/][-\w./,:]*$/.test(text) && !/:$|^\d+:\d/.test(text) ? text : JSON.stringify(text));

function versionText({ version, commit, libbpf, kernel }: ProgramVersions): string {
  return `sluiced ${version}\ncommit ${commit === '' ? 'unknown' : commit}\nlibbpf ${libbpf}\nkernel ${kernel}\n`;
}

const exitMeanings: Readonly<Record<keyof typeof ExitCode, string>> = {
  ok: 'stopped as asked',
  failure: 'failed while starting, running or stopping',
  usage: 'a flag is wrong',
  config: 'the settings file, the environment or the host is wrong',
  locked: 'another daemon holds the pin path or the socket',
  kernel: 'the kernel refused, or lacks what is needed',
  unreachable: 'sluice only: the daemon cannot be reached',
  capability: 'the process lacks a capability',
  bpffs: 'the pin path is not on a bpffs, cannot be written, or is not ours',
  cgroup: 'there is no cgroup v2, or --cgroup is none',
  occupied: 'another program holds a hook alone',
  layout: 'the pinned state is of another version',
};

/** `--help`. */
function helpText(): string {
  const command = daemonCommand(allSettings()).configureHelp({ helpWidth: 110 });
  const codes = Object.entries(ExitCode).map(([name, code]) => `  ${code}  ${exitMeanings[name as keyof typeof ExitCode]}\n`);
  return [
    command.helpInformation(),
    '\nEvery setting is taken from the last of: its default, the --config file, its environment variable, its flag.\n',
    'A list flag may be given again. Empty variables count as not given.\n',
    `\nExit codes:\n${codes.join('')}`,
  ].join('');
}

/** README's table of settings. */
export function settingsMarkdown(): string {
  const rows = allSettings().map(({ name, argument, environment, fallback, fallbackShown, help }) => {
    const value = fallbackShown ?? (fallback === undefined || fallback === '' ? '' : `\`${fallback}\``);
    return `| \`--${name} ${argument.replaceAll('|', '\\|')}\` | \`${environment}\` | ${value} | ${help} |\n`;
  });
  return `| flag | environment | default | meaning |\n|---|---|---|---|\n${rows.join('')}`;
}
