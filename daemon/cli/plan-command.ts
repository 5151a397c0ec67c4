// SPDX-License-Identifier: Apache-2.0
// Arguments of `sluice plan`. plan.ts runs the command. Called by run.ts.
import type { Command } from 'commander';
import { ExitCode, ExitError } from '../base/errors.ts';
import { userPath } from '../config/paths.ts';
import { output as outputFlag } from './choice.ts';
import type { Context } from './context.ts';
import { givenSettings } from './setting-flags.ts';

interface PlanFlags {
  readonly objects: string;
  readonly node?: string;
  readonly output: string;
}

export function addPlan(sluice: Command, { runtime, daemon, outcome, settings }: Context): void {
  const command = sluice
    .command('plan')
    .description(
      'print the frontends of a node for a directory of objects, or the differences from a running daemon; exits with 3 when an object cannot be used',
    )
    .requiredOption('--objects <DIR>', 'directory of Service, EndpointSlice, Node and ServiceCIDR objects in YAML or JSON')
    .option('--node <FILE>', 'description of the node, YAML or JSON: {"name", "ips", "primaryIPs", "labels", "podCIDRs"}')
    .addOption(outputFlag('table', 'json'));
  for (const { option } of settings) command.addOption(option);
  command.action(async ({ objects, node, output }: PlanFlags) => {
    const { env, out, err } = runtime;
    const { flags, extra } = givenSettings(command, settings);
    if (extra.length > 0) throw new ExitError(ExitCode.usage, `"${extra.join(' ')}" is not a flag; sluice plan --help lists the flags`);
    outcome.exitCode = await runtime.plan({
      ...{ objects: userPath(objects, env), nodeFile: node === undefined ? undefined : userPath(node, env) },
      ...{ flags, env, isJson: output === 'json', out, err, daemon: daemon() },
    });
  });
}
