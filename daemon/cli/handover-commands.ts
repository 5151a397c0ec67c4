// SPDX-License-Identifier: Apache-2.0
// Defines `sluice drain` and `sluice migrate`, which give the node back to kube-proxy and take it over. The agent does the work. Called by
// run.ts.
import type { Command } from 'commander';
import type { OpenFlows__Output as OpenFlows } from '../../proto/gen/sluice/v1/OpenFlows.ts';
import { askDrain, askMigrate } from './client.ts';
import type { Context } from './context.ts';
import { counted } from './table.ts';

export function addHandover(sluice: Command, { runtime, daemon }: Context): void {
  sluice
    .command('drain')
    .description(
      'begin to give the node back to kube-proxy: open flows are served until they end, and new connections are left to kube-proxy; the state outlives the daemon; `sluice migrate` ends it',
    )
    .action(async () => {
      const { openFlows } = await askDrain(daemon());
      runtime.out(`draining: new connections are left to kube-proxy; ${openText(openFlows)}\n`);
    });
  sluice
    .command('migrate')
    .description(
      'begin to take the node over from kube-proxy, as a new installation does: new connections are served, and those that kube-proxy has opened pass untouched',
    )
    .option('--done', 'complete the migration: the connections that kube-proxy has opened have ended', false)
    .action(async ({ done }: { done: boolean }) => {
      await askMigrate(daemon(), done);
      runtime.out(
        done ? 'serving: every connection is served\n' : 'migrating: the connections that kube-proxy has opened pass untouched\n',
      );
    });
}

function openText(flows: OpenFlows | null): string {
  const { tcp = '0', udp = '0', sctp = '0' } = flows ?? {};
  return `open: ${counted(tcp, 'TCP flow')}, ${counted(udp, 'UDP flow')}, ${counted(sctp, 'SCTP flow')}`;
}
