// SPDX-License-Identifier: Apache-2.0
// Arguments of `sluice plan`. plan.ts runs the command. Called by run.ts.
import { type Command, Option } from 'commander';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { Context } from './context.ts';
import { givenSettings } from './setting-flags.ts';

interface PlanFlags {
  readonly objects: string;
  readonly node?: string;
  readonly output: string;
}

export function addPlan(sluice: Command, { runtime, daemon, settings }: Context): void {
  const command = sluice
    .command('plan')
    .description('print the frontends that a directory of objects gives on a node, or how they differ from a running daemon')
    .requiredOption('--objects <DIR>', 'directory of Service, EndpointSlice, Node and ServiceCIDR objects in YAML or JSON')
    .option('--node <FILE>', 'description of the node, YAML or JSON: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}')
    .addOption(new Option('-o, --output <FORMAT>', 'output format').choices(['table', 'json']).default('table'));
  for (const { option } of settings) command.addOption(option);
  command.action(async ({ objects, node, output }: PlanFlags) => {
    const { env, out, err } = runtime;
    const { flags, extra } = givenSettings(command, settings);
    if (extra.length > 0) throw new ExitError(ExitCode.usage, `"${extra.join(' ')}" is not a flag; sluice plan --help lists the flags`);
    await runtime.plan({ objects, nodeFile: node, flags, env, isJson: output === 'json', out, err, daemon: daemon() });
  });
}
