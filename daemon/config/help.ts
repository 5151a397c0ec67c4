// SPDX-License-Identifier: Apache-2.0
// Texts about the settings: the output of --help, --version and --check-config, generated from schema.ts. Pure. Called by
// command-line.ts.
import type { ResolvedSetting } from './resolve.ts';
import { allSettings } from './schema.ts';
import { daemonCommand } from './sources.ts';
import { ExitCode } from '../base/errors.ts';

/** What `--version` shows. */
export interface ProgramVersions {
  readonly version: string;
  readonly commit: string;
  readonly libbpf: string;
  readonly kernel: string;
}

/** A settings file with the origin of each line. */
export function resolvedText(resolved: readonly ResolvedSetting[]): string {
  const lines = resolved.map(({ setting, text, origin }) => {
    const isSet = text !== undefined && text !== '';
    return { left: isSet ? `${setting.name}: ${quoted(text)}` : `# ${setting.name}:`, right: isSet ? origin : `not set` };
  });
  const width = Math.max(...lines.map(({ left }) => left.length));
  return lines.map(({ left, right }) => `${left.padEnd(width)}  # ${right}\n`).join('');
}

/** YAML reads plain words as they stand; what it would not is put in quotes. */
const quoted = (text: string): string => (/^[A-Za-z0-9/][-\w./,:]*$/.test(text) && !/:$|^\d+:\d/.test(text) ? text : JSON.stringify(text));

export function versionText({ version, commit, libbpf, kernel }: ProgramVersions): string {
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
export function helpText(): string {
  const command = daemonCommand(allSettings()).configureHelp({ helpWidth: 110 });
  const codes = Object.entries(ExitCode).map(([name, code]) => `  ${code}  ${exitMeanings[name as keyof typeof ExitCode]}\n`);
  return [
    command.helpInformation(),
    '\nEvery setting is taken from the last of: its default, the --config file, its environment variable, its flag.\n',
    'A list flag may be given again. Empty variables count as not given.\n',
    `\nExit codes:\n${codes.join('')}`,
  ].join('');
}
