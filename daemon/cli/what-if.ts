// SPDX-License-Identifier: Apache-2.0
// The commands that ask "what if": plan and explain, and the settings of sluiced that decide their answers. Words and flags
// only; plan.ts and explain.ts do the work, loaded when asked.
import { type Command, Option } from 'commander';
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

interface Context {
  readonly shell: WhatIfShell;
  readonly daemon: () => Daemon;
}

const bareFlag = 'masquerade-all';
const settings: Readonly<Record<string, string>> = {
  'cluster-cidr': 'CIDR,...',
  'detect-local-mode': 'MODE',
  'node-port-addresses': 'all|primary|CIDR,...',
  'service-cidr': 'CIDR,...',
  'pod-interfaces': 'PREFIX,...',
};

const output = (): Option => new Option('-o, --output <FORMAT>', 'how to print').choices(['table', 'json']).default('table');

/** sluiced's own flags on a command, as far as they decide what is served. */
function addSettings(command: Command): Command {
  for (const [name, argument] of Object.entries(settings)) {
    const option = new Option(`--${name} <${argument}>`, 'as of sluiced');
    command.addOption(option.argParser((text: string, before?: string) => (before === undefined ? text : `${before},${text}`)));
  }
  return command.option(`--${bareFlag} [on|off]`, 'as of sluiced');
}

/** Flags as sluiced would get them; and the words that a bare flag took for its value. */
function givenSettings(command: Command): { flags: string[]; words: string[] } {
  const values = new Map(command.options.map((option) => [option.name(), command.getOptionValue(option.attributeName()) as unknown]));
  const flags = Object.keys(settings).flatMap((name) => {
    const value = values.get(name);
    return typeof value === 'string' ? [`--${name}`, value] : [];
  });
  const bare = values.get(bareFlag);
  const isWord = typeof bare === 'string' && bare !== 'on' && bare !== 'off';
  if (bare !== undefined) flags.push(`--${bareFlag}`, bare === 'off' ? 'off' : 'on');
  return { flags, words: isWord ? [bare] : [] };
}

export function addPlan(sluice: Command, { shell, daemon }: Context): void {
  const command = sluice
    .command('plan')
    .description(
      'the frontends that a directory of objects would give on a node, and how that differs from a running daemon; changes nothing',
    )
    .requiredOption('--objects <DIR>', 'directory of Service, EndpointSlice, Node and ServiceCIDR YAML or JSON')
    .option('--node <FILE>', 'the node to play: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}, JSON or YAML')
    .addOption(output());
  addSettings(command).action(async ({ objects, node, output: format }: { objects: string; node?: string; output: string }) => {
    const { env, out, err } = shell;
    const { flags } = givenSettings(command);
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

export function addExplain(sluice: Command, { shell, daemon }: Context): void {
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
  addSettings(command).action(async (packet: string[], options: ExplainFlags) => {
    const { env, out, err } = shell;
    const { flags, words } = givenSettings(command);
    await shell.explain({
      ...{ packet: [...words, ...packet], from: options.from, iface: options.iface, flowsFile: options.flows },
      ...{ objects: options.objects, nodeFile: options.node, flags, isJson: options.output === 'json' },
      ...{ env, out, err, daemon: daemon() },
    });
  });
}
