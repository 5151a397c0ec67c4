// SPDX-License-Identifier: Apache-2.0
// Arguments of `sluice explain`. explain.ts runs the command. Called by run.ts.
import type { Command } from 'commander';
import { userPath } from '../config/paths.ts';
import { choice, output } from './choice.ts';
import type { Context } from './context.ts';
import { givenSettings } from './setting-flags.ts';

interface ExplainFlags {
  readonly from?: string;
  readonly iface?: string;
  readonly call?: string;
  readonly flows?: string;
  readonly objects?: string;
  readonly node?: string;
  readonly output: string;
}

export function addExplain(sluice: Command, { runtime, daemon, settings }: Context): void {
  const command = sluice
    .command('explain')
    .description('show what happens to a packet, and why, by test runs of the programs; sends no packet and changes no state')
    .argument(
      '[PACKET...]',
      'protocol, source and destination: tcp 10.180.0.5:4242 10.96.0.10:80, or a Service by name: tcp 10.180.0.5 web.default:http',
    )
    .addOption(choice('--from <ORIGIN>', 'origin of the packet; by default derived from its source', ['pod', 'node', 'external']))
    .addOption(
      choice('--call <CALL>', 'system call of the sending process; default: connect for TCP, sendto for UDP', ['connect', 'sendto']),
    )
    .option('--iface <NAME>', 'device that receives the packet')
    .option(
      '--flows <FILE>',
      'file of packets, YAML or JSON: [{"protocol", "sourceIP", "sourcePort"?, "destIP", "destPort", "from"?, "iface"?, "call"?}]; "destService" may replace "destIP" and "destPort"',
    )
    .option('--objects <DIR>', 'directory of objects to use instead of a running daemon; requires --node')
    .option('--node <FILE>', 'description of the node, YAML or JSON: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}')
    .addOption(output('table', 'json'));
  for (const { option } of settings) command.addOption(option);
  command.action(async (packet: string[], options: ExplainFlags) => {
    const { env, out, err } = runtime;
    const { flags, extra } = givenSettings(command, settings);
    const pathOf = (path: string | undefined): string | undefined => (path === undefined ? undefined : userPath(path, env));
    await runtime.explain({
      ...{ packet: [...extra, ...packet], from: options.from, iface: options.iface, call: options.call, flowsFile: pathOf(options.flows) },
      ...{ objects: pathOf(options.objects), nodeFile: pathOf(options.node), flags, isJson: options.output === 'json' },
      ...{ env, out, err, daemon: daemon() },
    });
  });
}
