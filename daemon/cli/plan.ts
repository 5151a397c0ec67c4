// SPDX-License-Identifier: Apache-2.0
// `sluice plan`: the frontends that a directory of objects would give on a node, computed by the daemon's own controllers
// without a daemon (dry-run.ts), or the difference to what a running one wants. Nothing is changed. Bad objects are named
// on stderr and left out.
import { readFileSync } from 'node:fs';
import type { ServicePort__Output as ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import { parseConfig } from '../config/resolve.ts';
import { dryRun } from '../offline/dry-run.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { hostPort } from '../model/address.ts';
import { backendsFor, type DesiredPort, type Frontend, frontendKey, type FrontendType, type Scope, scopeOf } from '../model/frontend.ts';
import { compareText } from '../model/order.ts';
import { askServices, askStatus, type Daemon } from './client.ts';
import { tableLines } from './table.ts';

/** One line of a plan; in this order of fields it is the JSON of `-o json`. */
export interface PlanRow {
  /** "10.96.0.10:80/TCP". */
  readonly frontend: string;
  /** "namespace/name:portName". */
  readonly service: string;
  readonly type: FrontendType;
  readonly scope: Scope;
  /** Of the set that the frontend's policy asks for, sorted as text, as explain does. */
  readonly backends: readonly string[];
  readonly affinitySeconds: number | null;
  /** Those that this frontend asks about. */
  readonly sourceRanges: readonly string[];
}

export interface PlanOptions {
  readonly objects: string;
  /** The --node FILE; undefined: the objects say what they know of the node that the daemon serves. */
  readonly nodeFile: string | undefined;
  /** sluiced's own flags, as far as they decide what is served. */
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isJson: boolean;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly daemon: Daemon;
}

/** JSON: the plan. Else what a running daemon would change; the plan where there is none. Throws ExitError. */
export async function runPlan({ objects, nodeFile, flags, env, isJson, out, err, daemon }: PlanOptions): Promise<void> {
  // The dry run takes source and node from its own arguments; the settings only want to have them.
  const settings = parseConfig(['--source', objects, '--node', 'dry-run', ...flags], env, (path) => readFileSync(path, 'utf8'));
  const node = nodeFile === undefined ? { name: await servedNode(daemon) } : { file: nodeFile };
  const { ports, problems } = dryRun({ objects, node, settings });
  for (const problem of problems) err(`sluice: ${problem}\n`);
  if (isJson) return out(`${JSON.stringify(planRows(ports.values()), undefined, 2)}\n`);
  const present = await servicesOf(daemon);
  out(present === undefined ? planText(planRows(ports.values())) : diffText(present, ports.values()));
}

async function servedNode(daemon: Daemon): Promise<string> {
  const name = (await askStatus(daemon)).agent?.node ?? '';
  if (name === '') throw new ExitError(ExitCode.usage, 'the daemon does not say which node it serves: give --node FILE');
  return name;
}

/** Undefined when no daemon can be reached. */
async function servicesOf(daemon: Daemon): Promise<readonly ServicePort[] | undefined> {
  try {
    return (await askServices(daemon)).services;
  } catch (error) {
    if (error instanceof ExitError && error.exitCode === ExitCode.unreachable) return undefined;
    throw error;
  }
}

/** Sorted by frontend, as text. */
export function planRows(ports: Iterable<DesiredPort>): PlanRow[] {
  const rows = [...ports].flatMap((port) => port.frontends.map((frontend) => rowOf(port, frontend)));
  return rows.toSorted((a, b) => compareText(a.frontend, b.frontend));
}

const serviceText = ({ namespace, name, portName }: DesiredPort): string => `${namespace}/${name}:${portName}`;

function rowOf(port: DesiredPort, frontend: Frontend): PlanRow {
  return {
    frontend: frontendKey(frontend),
    service: serviceText(port),
    type: frontend.type,
    scope: scopeOf(frontend),
    backends: backendsFor(port, frontend.policy)
      .map(({ address, port: number }) => hostPort(address, number))
      .sort(),
    affinitySeconds: port.affinitySeconds === 0 ? null : port.affinitySeconds,
    sourceRanges: frontend.hasSourceRanges ? port.sourceRanges : [],
  };
}

/** For people: one line per backend. */
export function planText(rows: readonly PlanRow[]): string {
  const lines = rows.map(({ frontend, service, type, scope, backends, affinitySeconds, sourceRanges }) => [
    ...[frontend, service, type, scope],
    ...[backends.join('\n') || 'no backend', affinitySeconds === null ? '-' : `${affinitySeconds}s`, sourceRanges.join('\n') || 'any'],
  ]);
  const titles = ['Frontend', 'Service', 'Type', 'Scope', 'Backend', 'Affinity', 'Sources'];
  return `${tableLines(titles, lines).flat().join('\n')}\n`;
}

/** What would go (-) and come (+): frontends, and for each the backends of its policy's set. */
export function diffText(present: readonly ServicePort[], planned: Iterable<DesiredPort>): string {
  const before = present.flatMap((port) =>
    port.frontends
      .filter(({ wanted }) => wanted)
      .flatMap((frontend) => {
        const isLocal = frontend.policy === 'Local';
        const backends = port.backends.filter(({ usable, locallyUsable }) => (isLocal ? locallyUsable : usable));
        return linesOf(frontend, { service: `${port.namespace}/${port.name}:${port.portName}`, backends });
      }),
  );
  const after = [...planned].flatMap((port) =>
    port.frontends.flatMap((frontend) => {
      return linesOf(frontend, { service: serviceText(port), backends: backendsFor(port, frontend.policy) });
    }),
  );
  const [old, fresh] = [new Set(before), new Set(after)];
  const changes = [
    ...[...old.difference(fresh)].map((line) => ({ line, sign: '-' })),
    ...[...fresh.difference(old)].map((line) => ({ line, sign: '+' })),
  ];
  const sorted = changes.toSorted((a, b) => compareText(a.line, b.line));
  return sorted.length === 0 ? 'nothing would change\n' : sorted.map(({ line, sign }) => `${sign} ${line}\n`).join('');
}

interface HostPort {
  readonly address: string;
  readonly port: number;
}

function linesOf(
  { address, port, protocol }: HostPort & { readonly protocol: string },
  { service, backends }: { readonly service: string; readonly backends: readonly HostPort[] },
): string[] {
  const frontend = `${hostPort(address, port)}/${protocol} ${service}`;
  return [frontend, ...backends.map((backend) => `${frontend} => ${hostPort(backend.address, backend.port)}`)];
}
