// SPDX-License-Identifier: Apache-2.0
// The commands that ask "what if": plan and explain, and the settings of sluiced that decide their answers. Words and flags
// only; plan.ts and explain.ts do the work, loaded when asked.
import { type Command, Option } from 'commander';
import type { Key, Setting } from '../config/schema.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { Daemon } from './client.ts';
import type { ExplainOptions } from './explain.ts';
import type { PlanOptions } from './plan.ts';

export interface WhatIfShell {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Works without a daemon too. */
  readonly plan: (options: PlanOptions) => Promise<void>;
  /** The same; without one it loads the kernel's libraries. */
  readonly explain: (options: ExplainOptions) => Promise<void>;
}

/** A setting of sluiced as a flag of ours. */
export interface SettingFlag {
  readonly setting: Setting;
  readonly option: Option;
}

interface Context {
  readonly shell: WhatIfShell;
  readonly daemon: () => Daemon;
  readonly settings: readonly SettingFlag[];
}

/** The settings that decide what is served. */
const keys: readonly Key[] = ['clusterCidr', 'detectLocalMode', 'masqueradeAll', 'nodePortAddresses', 'podInterfaces', 'serviceCidr'];

const output = (): Option => new Option('-o, --output <FORMAT>', 'how to print').choices(['table', 'json']).default('table');

/** Those settings as flags, for a command line that may name plan or explain: their schema is dear to load. */
export async function settingFlags(argv: readonly string[]): Promise<SettingFlag[]> {
  if (!argv.includes('plan') && !argv.includes('explain')) return [];
  const [{ allSettings }, { optionOf }] = await Promise.all([import('../config/schema.ts'), import('../config/sources.ts')]);
  const settings = allSettings().filter(({ key }) => keys.includes(key));
  return settings.map((setting) => ({ setting, option: optionOf(setting, 'as of sluiced') }));
}

/** Flags as sluiced would get them; and the words that a bare flag took for its value. */
function givenSettings(command: Command, settings: readonly SettingFlag[]): { flags: string[]; words: string[] } {
  const [flags, words]: [string[], string[]] = [[], []];
  for (const { setting, option } of settings) {
    const { name, preset } = setting;
    const text = command.getOptionValue(option.attributeName()) as string | undefined;
    if (text === undefined) continue;
    const isWord = preset !== undefined && text !== 'on' && text !== 'off';
    if (isWord) words.push(text);
    flags.push(`--${name}`, isWord ? preset : text);
  }
  return { flags, words };
}

export function addPlan(sluice: Command, { shell, daemon, settings }: Context): void {
  const command = sluice
    .command('plan')
    .description(
      'the frontends that a directory of objects would give on a node, and how that differs from a running daemon; changes nothing',
    )
    .requiredOption('--objects <DIR>', 'directory of Service, EndpointSlice, Node and ServiceCIDR YAML or JSON')
    .option('--node <FILE>', 'the node to play: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}, JSON or YAML')
    .addOption(output());
  for (const { option } of settings) command.addOption(option);
  command.action(async ({ objects, node, output: format }: { objects: string; node?: string; output: string }) => {
    const { env, out, err } = shell;
    const { flags, words } = givenSettings(command, settings);
    if (words.length > 0) throw new ExitError(ExitCode.usage, `"${words.join(' ')}" is no flag; sluice plan --help lists them`);
    await shell.plan({ objects, nodeFile: node, flags, env, isJson: format === 'json', out, err, daemon: daemon() });
  });
}

interface ExplainFlags {
  readonly from?: string;
  readonly iface?: string;
  readonly flows?: string;
  readonly objects?: string;
  readonly node?: string;
  readonly output: string;
}

export function addExplain(sluice: Command, { shell, daemon, settings }: Context): void {
  const command = sluice
    .command('explain')
    .description('what would happen to a packet, and why: the running programs are asked, nothing is sent and no state changes')
    .argument('[PACKET...]', 'protocol, source and destination: tcp 10.180.0.5:4242 10.96.0.10:80')
    .addOption(new Option('--from <ORIGIN>', 'where it comes from; told by its source otherwise').choices(['pod', 'node', 'external']))
    .option('--iface <NAME>', 'device by which it comes')
    .option('--flows <FILE>', 'many packets: [{"protocol", "sourceIP", "sourcePort"?, "destIP", "destPort", "from"?}], JSON or YAML')
    .option('--objects <DIR>', 'ask a directory of objects instead of a daemon; needs --node')
    .option('--node <FILE>', 'the node to play: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}, JSON or YAML')
    .addOption(output());
  for (const { option } of settings) command.addOption(option);
  command.action(async (packet: string[], options: ExplainFlags) => {
    const { env, out, err } = shell;
    const { flags, words } = givenSettings(command, settings);
    await shell.explain({
      ...{ packet: [...words, ...packet], from: options.from, iface: options.iface, flowsFile: options.flows },
      ...{ objects: options.objects, nodeFile: options.node, flags, isJson: options.output === 'json' },
      ...{ env, out, err, daemon: daemon() },
    });
  });
}
