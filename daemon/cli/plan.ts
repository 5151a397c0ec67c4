// SPDX-License-Identifier: Apache-2.0
// `sluice plan`: prints what a node would serve for a directory of objects. If a daemon runs and the format is not JSON, prints the
// differences between the plan and what the daemon serves. A dry run computes the plan (offline/dry-run.ts). Changes nothing. Objects and
// files that cannot be used are reported on stderr and left out, and the exit code is then 3. Called by main.ts.
import { ExitCode, ExitError } from '../base/errors.ts';
import { printable, printableJson, printableValue } from '../base/printable.ts';
import { rowSettings } from '../config/row-settings.ts';
import { dryRun, type DryRun } from '../offline/dry-run.ts';
import { planChanges, planRows, plannedState, type PlanRow, type ServedState } from '../offline/plan.ts';
import { askServices, askStatus, type Daemon } from './client.ts';
import { type DryRunFlags, dryRunSettings } from './dry-run-settings.ts';
import { plannedDevices, servedState } from './served-state.ts';
import { counted, tableLines } from './table.ts';

export interface PlanOptions extends DryRunFlags {
  /** The --node FILE. When undefined, the plan is for the daemon's node, and the objects must describe this node. */
  readonly nodeFile: string | undefined;
  readonly isJson: boolean;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly daemon: Daemon;
}

/**
 * Prints the plan as JSON or as a table. If a daemon runs, prints the differences instead of the table. Returns the exit code: 3 when
 * an object or a file cannot be used. Throws ExitError.
 */
export async function runPlan(options: PlanOptions): Promise<number> {
  const { objects, nodeFile, flags, env, isJson, out, err, daemon } = options;
  const served = isJson && nodeFile !== undefined ? undefined : await askDaemon(daemon, nodeFile === undefined);
  const settings = dryRunSettings({ objects, flags: [...inherited(served?.state.settings, flags), ...flags], env });
  const node = nodeFile === undefined ? nodeOf(served) : { file: nodeFile };
  const run = dryRun({ objects, node, settings });
  for (const problem of run.problems) err(`sluice: ${printable(problem)}\n`);
  if (isJson) out(`${printableJson(JSON.stringify(planRows(run), undefined, 2))}\n`);
  else if (served === undefined) out(planText(run));
  else {
    const values = new Map(rowSettings(settings).map(({ name, value }) => [name, value]));
    out(changesText(served.state, plannedState(run, { settings: values, devices: plannedDevices(served.state, settings) })));
  }
  if (run.problems.length === 0) return ExitCode.ok;
  err(`sluice: the plan is incomplete: ${counted(run.problems.length, 'problem')} in ${printable(objects)}, see above\n`);
  return ExitCode.config;
}

interface Served {
  readonly node: string;
  readonly state: ServedState;
}

/** Undefined when the daemon cannot be reached and is not required. */
async function askDaemon(daemon: Daemon, isRequired: boolean): Promise<Served | undefined> {
  try {
    const status = await askStatus(daemon);
    return { node: status.agent?.node ?? '', state: servedState(status, (await askServices(daemon)).services) };
  } catch (error) {
    if (!isRequired && error instanceof ExitError && error.exitCode === ExitCode.unreachable) return undefined;
    throw error;
  }
}

/** The settings of the running daemon as flags, except those that the command line sets. */
function inherited(settings: ServedState['settings'], flags: readonly string[]): string[] {
  return [...(settings ?? [])].filter(([name]) => !flags.includes(`--${name}`)).flatMap(([name, value]) => [`--${name}`, value]);
}

/** The node that the daemon serves, with its addresses. */
function nodeOf(served: Served | undefined): { name: string; localAddresses?: readonly string[] } {
  if (served === undefined || served.node === '')
    throw new ExitError(ExitCode.usage, 'the daemon does not report the node that it serves: pass --node FILE');
  const own = served.state.addressSets?.flatMap((member) => /^node ([^/]+)/.exec(member)?.[1] ?? []);
  return { name: served.node, ...(own === undefined || own.length === 0 ? {} : { localAddresses: own }) };
}

/** The table with one line per backend, followed by the health checks, the conflicts and the address sets. */
function planText(run: DryRun): string {
  const rows = printableValue(planRows(run));
  const lines = rows.map((row) => [
    ...[row.frontend, row.service, `${row.type}${row.policy === 'Local' ? ' (Local)' : ''}`, row.scope, backendCell(row)],
    ...[row.affinitySeconds === null ? '-' : `${row.affinitySeconds}s`, row.sourceRanges.join('\n') || 'any'],
  ]);
  const titles = ['Frontend', 'Service', 'Type', 'Scope', 'Backend', 'Affinity', 'Sources'];
  const more = [
    ...healthChecks(rows),
    ...printableValue(run.conflicts).map(
      ({ frontend, owner, contenders }) => `conflict: ${frontend} is served for ${owner}, not for ${contenders.join(', ')}`,
    ),
    ...[...run.ranges.values()].filter(({ set }) => set !== 'clusterIP').map(({ set, cidr }) => `address set ${set}: ${cidr}`),
  ];
  return `${[...tableLines(titles, lines).flat(), ...(more.length === 0 ? [] : ['', ...more])].join('\n')}\n`;
}

const backendCell = ({ backends, terminatingBackends }: PlanRow): string =>
  [...backends, ...terminatingBackends.map((each) => `${each} (terminating)`)].join('\n') || 'no backend';

function healthChecks(rows: readonly PlanRow[]): string[] {
  const found = rows.flatMap(({ service, healthCheckNodePort }) =>
    healthCheckNodePort === null ? [] : [`health check of ${service.replace(/:.*/, '')}: port ${healthCheckNodePort}`],
  );
  return [...new Set(found)];
}

const signs = { added: '+', removed: '-', changed: '~' } as const;

/** One line for each thing that is removed (-), added (+) or changed (~). */
function changesText(served: ServedState, planned: ServedState): string {
  const lines = planChanges(served, planned).map(({ kind, text }) => `${signs[kind]} ${printable(text)}\n`);
  return lines.length === 0 ? 'no changes\n' : lines.join('');
}
