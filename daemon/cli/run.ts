// SPDX-License-Identifier: Apache-2.0
// The `sluice` command: reads its arguments, asks the daemon, prints, and returns the exit code. run() touches the process
// only through what it is given, so tests call it as the shell would. Errors are one sentence on stderr, never a stack.
import { Command, CommanderError, Option } from 'commander';

import { ExitCode, KernelError, messageOf, ExitError } from '../base/errors.ts';
import { askBackends, askReload, askServices, askStatus, type Daemon } from './client.ts';
import { backendsText, servicesText } from './list-text.ts';
import { isHealthy, statusText } from './status-text.ts';
import { addExplain, addPlan, type SettingFlag, settingFlags, type WhatIfShell } from './what-if.ts';

export interface UninstallOptions {
  readonly pinPath: string;
  readonly socket: string;
  readonly dryRun: boolean;
  readonly print: (line: string) => void;
}

export interface PreflightOptions {
  /** sluiced's own flags. */
  readonly argv: readonly string[];
  readonly env: Shell['env'];
  readonly isJson: boolean;
  readonly print: (text: string) => void;
}

export interface Shell extends WhatIfShell {
  /** Works without a daemon; loads the kernel's libraries, so only when asked. */
  readonly uninstall: (options: UninstallOptions) => Promise<number>;
  /** The same. */
  readonly preflight: (options: PreflightOptions) => Promise<number>;
}

/** Does what `sluice ARGV...` says. Never rejects; resolves to the exit code. */
export async function run(argv: readonly string[], shell: Shell): Promise<number> {
  const outcome = { exitCode: ExitCode.ok as number };
  try {
    await program(shell, outcome, await settingFlags(argv)).parseAsync([...argv], { from: 'user' });
    return outcome.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return commanderExit(error, shell);
    shell.err(`sluice: ${messageOf(error)}\n`);
    if (error instanceof ExitError) return error.exitCode;
    return error instanceof KernelError ? ExitCode.kernel : ExitCode.failure;
  }
}

function commanderExit(error: CommanderError, shell: Shell): number {
  // Help that was asked for; its text is printed already.
  if (error.exitCode === 0) return ExitCode.ok;
  if (error.code !== 'commander.help') shell.err(`sluice: ${error.message.replace(/^error: /, '').replaceAll(/\s*\n\s*/g, ' ')}\n`);
  return ExitCode.usage;
}

interface GlobalOptions {
  readonly socket: string;
  readonly timeout: number;
}

function program(shell: Shell, outcome: { exitCode: number }, settings: readonly SettingFlag[]): Command {
  const sluice = new Command('sluice').description(
    'Look at the Sluice agent of this node: what it wants, what the kernel holds, and any difference.',
  );
  sluice
    .configureHelp({ helpWidth: 110 })
    .exitOverride()
    .configureOutput({ writeOut: shell.out, writeErr: shell.err, outputError: () => undefined });
  sluice.option('--socket <PATH>', "the daemon's API socket (SLUICE_SOCKET)", shell.env['SLUICE_SOCKET'] || '/run/sluice/sluice.sock');
  sluice.addOption(
    new Option('--timeout <TIME>', 'how long to wait for an answer, such as 10s or 500ms').default(5000, '5s').argParser(milliseconds),
  );
  sluice.addHelpText(
    'after',
    "\nExit codes:\n  0  done\n  1  failed, or not ready, or degraded\n  2  wrong arguments\n  5  the kernel refused (uninstall)\n  6  the daemon cannot be reached\nThose of preflight are sluiced's: see sluiced --help.",
  );
  const daemon = (): Daemon => {
    const { socket, timeout } = sluice.opts<GlobalOptions>();
    return { socket, timeoutMs: timeout };
  };
  addStatus(sluice, { shell, daemon, outcome });
  addLists(sluice, { shell, daemon });
  addReload(sluice, { shell, daemon });
  addExplain(sluice, { shell, daemon, settings });
  addPlan(sluice, { shell, daemon, settings });
  addPreflight(sluice, { shell, daemon, outcome });
  addUninstall(sluice, { shell, daemon, outcome });
  return sluice;
}

interface Context {
  readonly shell: Shell;
  readonly daemon: () => Daemon;
  readonly outcome: { exitCode: number };
}

const output = (...formats: string[]): Option => new Option('-o, --output <FORMAT>', 'how to print').choices(formats).default('table');

/** The response in protobuf's JSON form: the same that grpcurl prints. */
const json = (response: object): string => `${JSON.stringify(response, undefined, 2)}\n`;

function addStatus(sluice: Command, { shell, daemon, outcome }: Context): void {
  sluice
    .command('status')
    .description('how agent, sources, host and datapath are; exit code 1 when not ready or degraded')
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const status = await askStatus(daemon());
      shell.out(options.output === 'json' ? json(status) : statusText(status));
      outcome.exitCode = isHealthy(status) ? ExitCode.ok : ExitCode.failure;
    });
}

function addLists(sluice: Command, { shell, daemon }: Omit<Context, 'outcome'>): void {
  const service = sluice.command('service').description('Services and their frontends');
  service
    .command('list')
    .description('every frontend with its backends, wanted beside held')
    .addOption(output('table', 'wide', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askServices(daemon());
      shell.out(options.output === 'json' ? json(response) : servicesText(response.services, options.output === 'wide'));
    });
  const backend = sluice.command('backend').description('backend rows in the kernel');
  backend
    .command('list')
    .description('every backend row that the kernel holds')
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askBackends(daemon());
      shell.out(options.output === 'json' ? json(response) : backendsText(response.backends));
    });
}

function addReload(sluice: Command, { shell, daemon }: Omit<Context, 'outcome'>): void {
  sluice
    .command('reload')
    .description('load the BPF programs anew from disk and replace those that run, between two packets; all of them or none')
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askReload(daemon());
      const text = `replaced the programs on ${response.hooks} hooks in ${Math.round(response.milliseconds)} ms\n`;
      shell.out(options.output === 'json' ? json(response) : text);
    });
}

function addPreflight(sluice: Command, { shell, daemon, outcome }: Context): void {
  sluice
    .command('preflight')
    .description('whether this host can be served, with the flags of sluiced; changes nothing. Exit code: that of sluiced')
    .argument('[FLAGS...]', 'the flags that sluiced would get, such as --source DIR --uplinks eth0')
    .allowUnknownOption()
    .addOption(output('table', 'json'))
    .action(async (flags: string[], options: { output: string }) => {
      const socket = daemon().socket;
      outcome.exitCode = await shell.preflight({
        ...{ argv: [...flags, '--socket', socket], env: shell.env, print: shell.out },
        isJson: options.output === 'json',
      });
    });
}

function addUninstall(sluice: Command, { shell, daemon, outcome }: Context): void {
  sluice
    .command('uninstall')
    .description('remove every program, link, map, pin and file of Sluice from this node; the daemon must have ended')
    .option('--pin-path <DIR>', 'where maps and links are pinned (SLUICE_PIN_PATH)', shell.env['SLUICE_PIN_PATH'] || '/sys/fs/bpf/sluice')
    .option('--dry-run', 'say what would be removed, and remove nothing', false)
    .action(async ({ pinPath, dryRun }: { pinPath: string; dryRun: boolean }) => {
      const print = (line: string): void => shell.out(`${line}\n`);
      outcome.exitCode = await shell.uninstall({ pinPath, socket: daemon().socket, dryRun, print });
    });
}

function milliseconds(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? [];
  const time = Number(amount) * (unit === 'ms' ? 1 : unit === 'm' ? 60_000 : 1000);
  if (time > 0 && time < 2 ** 31) return Math.ceil(time);
  throw new ExitError(ExitCode.usage, `--timeout ${text} is no time: write seconds, or a number with ms, s or m`);
}
