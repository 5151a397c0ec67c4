// SPDX-License-Identifier: Apache-2.0
// `sluice plan`: prints the frontends that a node would serve for a directory of objects. If a daemon runs, prints instead how
// these frontends differ from those that the daemon serves. A dry run computes the frontends (offline/dry-run.ts). Changes nothing.
// Invalid objects are reported on stderr and left out. Called by main.ts.
import type { ServicePort__Output as ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { hostPort } from '../model/address.ts';
import { dryRun } from '../offline/dry-run.ts';
import { planChanges, planRows, type PlanRow, type ServedFrontend } from '../offline/plan.ts';
import { askServices, askStatus, type Daemon } from './client.ts';
import { type DryRunFlags, dryRunSettings } from './dry-run-settings.ts';
import { tableLines } from './table.ts';

export interface PlanOptions extends DryRunFlags {
  /** The --node FILE. When undefined, the plan is for the daemon's node, and the objects must describe this node. */
  readonly nodeFile: string | undefined;
  readonly isJson: boolean;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly daemon: Daemon;
}

/** Prints the plan as JSON or as a table. If a daemon runs, prints the differences instead of the table. Throws ExitError. */
export async function runPlan({ objects, nodeFile, flags, env, isJson, out, err, daemon }: PlanOptions): Promise<void> {
  const settings = dryRunSettings({ objects, flags, env });
  const node = nodeFile === undefined ? { name: await servedNode(daemon) } : { file: nodeFile };
  const { ports, problems } = dryRun({ objects, node, settings });
  for (const problem of problems) err(`sluice: ${problem}\n`);
  const rows = planRows(ports.values());
  if (isJson) return out(`${JSON.stringify(rows, undefined, 2)}\n`);
  const services = await servicesOf(daemon);
  out(services === undefined ? planText(rows) : changesText(services, rows));
}

async function servedNode(daemon: Daemon): Promise<string> {
  const name = (await askStatus(daemon)).agent?.node ?? '';
  if (name === '') throw new ExitError(ExitCode.usage, 'the daemon does not report the node that it serves: pass --node FILE');
  return name;
}

/** Undefined when the daemon cannot be reached. */
async function servicesOf(daemon: Daemon): Promise<readonly ServicePort[] | undefined> {
  try {
    return (await askServices(daemon)).services;
  } catch (error) {
    if (error instanceof ExitError && error.exitCode === ExitCode.unreachable) return undefined;
    throw error;
  }
}

/** One line per backend. */
function planText(rows: readonly PlanRow[]): string {
  const lines = rows.map(({ frontend, service, type, scope, backends, affinitySeconds, sourceRanges }) => [
    ...[frontend, service, type, scope],
    ...[backends.join('\n') || 'no backend', affinitySeconds === null ? '-' : `${affinitySeconds}s`, sourceRanges.join('\n') || 'any'],
  ]);
  const titles = ['Frontend', 'Service', 'Type', 'Scope', 'Backend', 'Affinity', 'Sources'];
  return `${tableLines(titles, lines).flat().join('\n')}\n`;
}

/** One line per frontend or backend that the objects remove (-) or add (+). */
export function changesText(services: readonly ServicePort[], rows: readonly PlanRow[]): string {
  const lines = planChanges(services.flatMap(servedFrontends), rows).map(({ kind, frontend, service, backend }) => {
    return `${kind === 'removed' ? '-' : '+'} ${frontend} ${service}${backend === undefined ? '' : ` => ${backend}`}\n`;
  });
  return lines.length === 0 ? 'no changes\n' : lines.join('');
}

/** The frontends that the daemon wants for a Service port, with the backends that their policy selects. */
function servedFrontends({ namespace, name, portName, frontends, backends }: ServicePort): ServedFrontend[] {
  return frontends
    .filter(({ wanted }) => wanted)
    .map(({ address, port, protocol, policy }) => ({
      frontend: `${hostPort(address, port)}/${protocol}`,
      service: `${namespace}/${name}:${portName}`,
      backends: backends
        .filter(({ usable, locallyUsable }) => (policy === 'Local' ? locallyUsable : usable))
        .map((backend) => hostPort(backend.address, backend.port)),
    }));
}
