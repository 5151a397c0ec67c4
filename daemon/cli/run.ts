// SPDX-License-Identifier: Apache-2.0
// The `sluice` command: parses the arguments, calls the daemon, prints the result and returns the exit code. It uses the process
// only through the Runtime argument, so that tests can call it. An error is one message on stderr, never a stack trace.
import { Command, CommanderError, Option } from 'commander';

import { printable, printableJson, printableValue } from '../base/printable.ts';
import { ExitCode, KernelError, ExitError } from '../base/errors.ts';
import { failureText } from '../base/reasons.ts';
import { userPath } from '../config/paths.ts';
import { usageText } from '../config/usage.ts';
import { output } from './choice.ts';
import { askBackends, askReload, askServices, askStatus } from './client.ts';
import type { Context, Runtime, SettingFlag } from './context.ts';
import { addExplain } from './explain-command.ts';
import { addHandover } from './handover-commands.ts';
import { backendsText, servicesText } from './list-text.ts';
import { addPlan } from './plan-command.ts';
import { settingFlags } from './setting-flags.ts';
import { isHealthy, statusText } from './status-text.ts';

/** Runs `sluice ARGV...`. Never rejects; resolves to the exit code. */
export async function run(argv: readonly string[], runtime: Runtime): Promise<number> {
  const outcome = { exitCode: ExitCode.ok as number };
  let sluice: Command | undefined;
  try {
    sluice = program(runtime, outcome, await settingFlags(argv));
    await sluice.parseAsync([...argv], { from: 'user' });
    return outcome.exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return commanderExit(error, runtime, commandNamed(argv, sluice));
    runtime.err(`sluice: ${printable(failureText(error))}\n`);
    if (error instanceof ExitError) return error.exitCode;
    return error instanceof KernelError ? ExitCode.kernel : ExitCode.failure;
  }
}

function commanderExit(error: CommanderError, runtime: Runtime, command: string): number {
  // commander has already printed the help.
  if (error.exitCode === 0) return ExitCode.ok;
  if (error.code !== 'commander.help') runtime.err(`sluice: ${printable(usageText(error, command))}\n`);
  return ExitCode.usage;
}

/** The command that the arguments name: "sluice service list". */
function commandNamed(argv: readonly string[], sluice: Command | undefined): string {
  const names = ['sluice'];
  let at = sluice;
  for (const word of argv) {
    const next = at?.commands.find((command) => command.name() === word);
    if (next === undefined) continue;
    names.push(word);
    at = next;
  }
  return names.join(' ');
}

interface GlobalOptions {
  readonly socket: string;
  readonly timeout: number;
}

function program(runtime: Runtime, outcome: { exitCode: number }, settings: readonly SettingFlag[]): Command {
  const sluice = new Command('sluice').description(
    'Inspects and operates the Sluice agent of this node. Commands that show state compare the desired state with the kernel.',
  );
  sluice
    .configureHelp({ helpWidth: 110 })
    .exitOverride()
    .configureOutput({ writeOut: runtime.out, writeErr: runtime.err, outputError: () => undefined });
  sluice.option(
    '--socket <PATH>',
    "Unix socket of the daemon's API (SLUICE_SOCKET)",
    runtime.env['SLUICE_SOCKET'] || '/run/sluice/sluice.sock',
  );
  sluice.addOption(
    new Option('--timeout <TIME>', 'maximum time to wait for a response, such as 10s or 500ms').default(5000, '5s').argParser(milliseconds),
  );
  sluice.addHelpText(
    'after',
    '\nExit codes:\n  0  success\n  1  the command failed, the agent is degraded or not ready, or uninstall left something\n  2  invalid arguments\n  3  an object or a named file cannot be used\n  5  the kernel rejected a call (uninstall)\n  6  the daemon cannot be reached\npreflight exits with the code with which sluiced would fail (see sluiced --help), and with 1 if sluiced would start and not become ready.',
  );
  const daemon: Context['daemon'] = () => {
    const { socket, timeout } = sluice.opts<GlobalOptions>();
    return { socket: userPath(socket, runtime.env), timeoutMs: timeout };
  };
  const context: Context = { runtime, daemon, outcome, settings };
  addStatus(sluice, context);
  addLists(sluice, context);
  addReload(sluice, context);
  addHandover(sluice, context);
  addExplain(sluice, context);
  addPlan(sluice, context);
  addPreflight(sluice, context);
  addUninstall(sluice, context);
  return sluice;
}

/** The response in the JSON format of protobuf, as grpcurl prints it. */
const json = (response: object): string => `${printableJson(JSON.stringify(response, undefined, 2))}\n`;

function addStatus(sluice: Command, { runtime, daemon, outcome }: Context): void {
  sluice
    .command('status')
    .description(
      'show the state of the agent, the sources, the host and the datapath; exits with 1 when the agent is degraded or not ready',
    )
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const status = await askStatus(daemon());
      outcome.exitCode = isHealthy(status) ? ExitCode.ok : ExitCode.failure;
      runtime.out(options.output === 'json' ? json(status) : statusText(printableValue(status)));
    });
}

function addLists(sluice: Command, { runtime, daemon }: Context): void {
  const service = sluice.command('service').description('inspect Services and their frontends');
  service
    .command('list')
    .description('list every frontend with its backends, desired and in the kernel')
    .addOption(output('table', 'wide', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askServices(daemon());
      runtime.out(options.output === 'json' ? json(response) : servicesText(printableValue(response.services), options.output === 'wide'));
    });
  const backend = sluice.command('backend').description('inspect backend entries in the kernel');
  backend
    .command('list')
    .description('list every backend entry in the kernel')
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askBackends(daemon());
      runtime.out(options.output === 'json' ? json(response) : backendsText(printableValue(response.backends)));
    });
}

function addReload(sluice: Command, { runtime, daemon }: Context): void {
  sluice
    .command('reload')
    .description(
      'load the BPF programs from disk and replace all attached programs, each atomically; if one replacement fails, the previous programs are restored',
    )
    .addOption(output('table', 'json'))
    .action(async (options: { output: string }) => {
      const response = await askReload(daemon());
      const text = `replaced the programs on ${response.hooks} hooks in ${Math.round(response.milliseconds)} ms\n`;
      runtime.out(options.output === 'json' ? json(response) : text);
    });
}

function addPreflight(sluice: Command, { runtime, daemon, outcome }: Context): void {
  sluice
    .command('preflight')
    .description(
      'check whether sluiced can serve this host with the given flags, and whether it can read from the API server; changes nothing; exits with the code with which sluiced would fail',
    )
    .argument('[FLAGS...]', 'flags of sluiced, such as --source DIR --uplinks eth0')
    .allowUnknownOption()
    .addOption(output('table', 'json'))
    .action(async (flags: string[], options: { output: string }) => {
      const socket = daemon().socket;
      outcome.exitCode = await runtime.preflight({
        ...{ argv: [...flags, '--socket', socket], env: runtime.env, print: runtime.out },
        isJson: options.output === 'json',
      });
    });
}

function addUninstall(sluice: Command, { runtime, daemon, outcome }: Context): void {
  sluice
    .command('uninstall')
    .description(
      'remove every program, link, map, pin and file of Sluice from this node; the daemon must not be running; what is not from Sluice is left and named',
    )
    .option(
      '--pin-path <DIR>',
      'directory of the pinned maps and links (SLUICE_PIN_PATH)',
      runtime.env['SLUICE_PIN_PATH'] || '/sys/fs/bpf/sluice',
    )
    .option('--dry-run', 'print what would be removed, and remove nothing; the daemon may be running', false)
    .option('--force', 'after `sluice drain`: do not wait until the open flows have ended; their connections break', false)
    .action(async ({ pinPath, dryRun, force }: { pinPath: string; dryRun: boolean; force: boolean }) => {
      const print = (line: string): void => runtime.out(`${line}\n`);
      outcome.exitCode = await runtime.uninstall({
        ...{ pinPath: userPath(pinPath, runtime.env), socket: daemon().socket, dryRun, isForced: force, print },
      });
    });
}

function milliseconds(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(text) ?? [];
  const time = Number(amount) * (unit === 'ms' ? 1 : unit === 'm' ? 60_000 : 1000);
  if (time > 0 && time < 2 ** 31) return Math.ceil(time);
  throw new ExitError(ExitCode.usage, `--timeout ${text} is not a valid time: use seconds, or a number with the unit ms, s or m`);
}
