// SPDX-License-Identifier: Apache-2.0
// Texts about the settings: the output of --help, --version and --check-config, generated from schema.ts. Pure. Called by
// command-line.ts.
import type { ResolvedSetting } from './resolve.ts';
import { allSettings } from './schema.ts';
import { daemonCommand } from './sources.ts';
import { ExitCode } from '../base/errors.ts';
import { printableJson } from '../base/printable.ts';

/** Versions that `--version` prints. */
export interface ProgramVersions {
  readonly version: string;
  readonly commit: string;
  readonly libbpf: string;
  readonly kernel: string;
}

/** The settings in the form of a settings file, with a comment on each line that names the origin of the value. */
export function resolvedText(resolved: readonly ResolvedSetting[]): string {
  const lines = resolved.map(({ setting, text, origin }) => {
    const isSet = text !== undefined && text !== '';
    return { left: isSet ? `${setting.name}: ${quoted(text)}` : `# ${setting.name}:`, right: isSet ? origin : 'not set' };
  });
  const width = Math.max(...lines.map(({ left }) => left.length));
  return lines.map(({ left, right }) => `${left.padEnd(width)}  # ${right}\n`).join('');
}

/** Quotes text that YAML would not read back as the same string. */
const quoted = (text: string): string =>
  /^[A-Za-z0-9/][-\w./,:]*$/.test(text) && !/:$|^\d+:\d/.test(text) ? text : printableJson(JSON.stringify(text));

export function versionText({ version, commit, libbpf, kernel }: ProgramVersions): string {
  return `sluiced ${version}\ncommit ${commit === '' ? 'unknown' : commit}\nlibbpf ${libbpf}\nkernel ${kernel}\n`;
}

const exitMeanings: Readonly<Record<keyof typeof ExitCode, string>> = {
  ok: 'success, or stopped by a signal',
  failure: 'failed during start, operation or stop',
  usage: 'a flag is invalid',
  config: 'the settings file, the environment, a named file or the host configuration is invalid',
  locked: 'another daemon uses the pin path or the socket',
  kernel: 'the kernel rejected a call or lacks a required feature',
  unreachable: 'sluice only: the daemon cannot be reached',
  capability: 'the process lacks a capability',
  bpffs: 'the pin path is not on a bpffs, is not writable, or contains the pins of another program',
  cgroup: 'cgroup v2 is not mounted, or --cgroup is not a cgroup v2 directory',
  occupied: 'another program is attached exclusively to a hook',
  layout: 'the pinned state has another layout version',
};

/** Output of `--help`. */
export function helpText(): string {
  const command = daemonCommand(allSettings()).configureHelp({ helpWidth: 110 });
  const codes = Object.entries(ExitCode).map(([name, code]) => `  ${code}  ${exitMeanings[name as keyof typeof ExitCode]}\n`);
  return [
    command.helpInformation(),
    '\nA flag overrides its environment variable, which overrides the --config file, which overrides the default.\n',
    'A list flag may be repeated. An empty environment variable counts as not set.\n',
    'A relative path is relative to the current directory, and in the --config file to the directory of that file.\n',
    `\nExit codes:\n${codes.join('')}`,
  ].join('');
}
