// SPDX-License-Identifier: Apache-2.0
// `sluice explain`: reads the queries, gets the explanations and prints them. The explanations come from a running daemon or, with
// --objects, from offline/dry-explain.ts, which needs no daemon and is loaded only then. Called by main.ts.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import type { Explanation__Output as ExplanationMessage } from '../../proto/gen/sluice/v1/Explanation.ts';
import { ExitCode, messageOf, ExitError } from '../base/errors.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';
import { askExplain, type Daemon } from './client.ts';
import { dryRunSettings } from './dry-run-settings.ts';

export interface ExplainOptions {
  /** "tcp 10.180.0.5:4242 10.96.0.10:80", split at blanks; not read when `flowsFile` is given. */
  readonly packet: readonly string[];
  readonly from: string | undefined;
  readonly iface: string | undefined;
  readonly flowsFile: string | undefined;
  /** Directory of objects; undefined to query the daemon. */
  readonly objects: string | undefined;
  readonly nodeFile: string | undefined;
  /** Settings of sluiced as flags; used only with `objects`. */
  readonly flags: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly isJson: boolean;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly daemon: Daemon;
}

const usage = (message: string): ExitError => new ExitError(ExitCode.usage, message);

const port = z.number().int().min(0).max(65_535);
const querySchema = z.object({
  protocol: z
    .string()
    .transform((word) => word.toUpperCase())
    .pipe(z.enum(['TCP', 'UDP', 'SCTP'])),
  sourceIP: z.string(),
  sourcePort: port.nullish().transform((number) => number ?? 0),
  destIP: z.string(),
  destPort: port,
  from: z
    .enum(['pod', 'node', 'external'])
    .nullish()
    .transform((word) => word ?? undefined),
  iface: z
    .string()
    .nullish()
    .transform((word) => word ?? undefined),
});

/** Prints one explanation, or one for each packet of --flows in the same order. Throws ExitError. */
export async function runExplain(options: ExplainOptions): Promise<void> {
  const queries = options.flowsFile === undefined ? [packetOf(options)] : flowsOf(options.flowsFile);
  const explanations =
    options.objects === undefined ? await askDaemon(options, queries) : await askObjects(options, options.objects, queries);
  if (!options.isJson) return options.out(explanations.map((explanation, i) => explanationText(explanation, queries[i])).join('\n'));
  const [only] = explanations;
  options.out(`${JSON.stringify(options.flowsFile === undefined ? only : explanations, undefined, 2)}\n`);
}

async function askDaemon({ daemon }: ExplainOptions, queries: readonly PacketQuery[]): Promise<Explanation[]> {
  const { explanations } = await askExplain(daemon, queries);
  return explanations.map(explanationOf);
}

async function askObjects(options: ExplainOptions, objects: string, queries: readonly PacketQuery[]): Promise<readonly Explanation[]> {
  if (options.nodeFile === undefined) throw usage('--objects requires --node FILE, which describes the node');
  const { dryExplain } = await import('../offline/dry-explain.ts');
  const settings = dryRunSettings({ objects, flags: options.flags, env: options.env });
  const { explanations, problems } = dryExplain({ objects, node: { file: options.nodeFile }, settings }, queries);
  for (const problem of problems) options.err(`sluice: ${problem}\n`);
  return explanations;
}

/** Parses "10.96.0.10:80" or "[fd00::1]:80". The port may be missing only when `isPortOptional`. */
function endOf(text: string, what: string, isPortOptional: boolean): { ip: string; port: number } {
  const [, six, four, digits] = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(text) ?? [];
  // An IPv6 address without brackets cannot have a port.
  const ip = six ?? four ?? (text.split(':').length > 2 ? text : undefined);
  const number = Number(digits ?? 0);
  if (ip === undefined || number > 65_535) throw usage(`the ${what} ${text} must be IP:PORT, such as 10.96.0.10:80 or [fd00::1]:80`);
  if (digits === undefined && !isPortOptional)
    throw usage(`the ${what} ${text} has no port: use ${text.includes(':') ? `[${ip}]` : ip}:PORT`);
  return { ip, port: number };
}

function packetOf({ packet, from, iface }: ExplainOptions): PacketQuery {
  const [protocol = '', source = '', destination = '', ...rest] = packet;
  if (destination === '' || rest.length > 0)
    throw usage('pass PROTOCOL SOURCE:PORT DESTINATION:PORT, such as tcp 10.180.0.5:4242 10.96.0.10:80, or --flows FILE');
  const [a, b] = [endOf(source, 'source', true), endOf(destination, 'destination', false)];
  return read({ protocol, sourceIP: a.ip, sourcePort: a.port, destIP: b.ip, destPort: b.port, from, iface }, 'the packet');
}

function flowsOf(path: string): PacketQuery[] {
  let flows: unknown;
  try {
    flows = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new ExitError(ExitCode.config, `cannot read the --flows file: ${messageOf(error)}`, { cause: error });
  }
  if (!Array.isArray(flows)) throw new ExitError(ExitCode.config, `${path} must contain a list of packets`);
  return flows.map((flow: unknown, index) => read(flow, `${path}[${index}]`));
}

function read(raw: unknown, where: string): PacketQuery {
  const result = querySchema.safeParse(raw);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw usage(`${where}${issue === undefined ? '' : `.${issue.path.join('.')}: ${issue.message}`}`);
}

/** The protobuf message in the form that `-o json` prints. */
const explanationOf = (message: ExplanationMessage): Explanation => ({
  verdict: message.verdict as Explanation['verdict'],
  frontend: message.frontend === null ? null : (message.frontend as Explanation['frontend']),
  candidates: message.candidates,
  backend: message.backend === '' ? null : message.backend,
  masquerade: message.masquerade,
  reason: message.reason,
  steps: message.steps as Explanation['steps'],
});

function explanationText(explanation: Explanation, query: PacketQuery | undefined): string {
  const width = Math.max(...explanation.steps.map(({ step }) => step.length));
  const head = query === undefined ? '' : `${query.protocol} ${query.sourceIP} -> ${query.destIP} port ${query.destPort}\n`;
  const lines = explanation.steps.map(
    ({ step, text, entry }) => `  ${step.padEnd(width)}   ${text}${entry === '' ? '' : `   [${entry}]`}\n`,
  );
  return `${head}${lines.join('')}`;
}
