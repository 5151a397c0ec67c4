// SPDX-License-Identifier: Apache-2.0
// `sluice explain`: reads the queries, gets the explanations and prints them. The explanations come from a running daemon or, with
// --objects, from offline/dry-explain.ts, which needs no daemon and is loaded only then. Called by main.ts.
import { parse } from 'yaml';
import { z } from 'zod';
import type { Explanation__Output as ExplanationMessage } from '../../proto/gen/sluice/v1/Explanation.ts';
import { readBoundedText } from '../base/bounded-read.ts';
import { checkNesting } from '../base/nesting.ts';
import { printable, printableJson, printableValue } from '../base/printable.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { systemReason, yamlReason } from '../base/reasons.ts';
import { parseAddress } from '../model/address.ts';
import type { Explanation, PacketQuery } from '../model/explanation.ts';
import { askExplain, type Daemon } from './client.ts';
import { dryRunSettings } from './dry-run-settings.ts';

export interface ExplainOptions {
  /** "tcp 10.180.0.5:4242 10.96.0.10:80", split at blanks; not read when `flowsFile` is given. */
  readonly packet: readonly string[];
  readonly from: string | undefined;
  readonly iface: string | undefined;
  readonly call: string | undefined;
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

/** Maximum size of the --flows file in bytes. This is enough for 50,000 packets. */
const MAX_FLOWS_BYTES = 8 * 2 ** 20;

const usage = (message: string): ExitError => new ExitError(ExitCode.usage, message);

/** Schema option: the message for a value that is not `what`. */
const must = (what: string) => ({ error: ({ input }: { input?: unknown }) => `must be ${what}, is ${shown(input)}` });
const shown = (value: unknown): string =>
  (value === undefined ? 'missing' : (JSON.stringify(value) as string | undefined)?.slice(0, 80)) ?? '?';
const optional = <S extends z.ZodType>(schema: S) => schema.nullish().transform((value) => value ?? undefined);

const port = z
  .number(must('a port from 0 to 65535'))
  .int(must('a whole number'))
  .min(0, must('0 or more'))
  .max(65_535, must('65535 or less'));
const string = z.string(must('a string'));
const querySchema = z
  .object(
    {
      protocol: string.transform((word) => word.toUpperCase()).pipe(z.enum(['TCP', 'UDP', 'SCTP'], must('tcp, udp or sctp'))),
      sourceIP: string,
      sourcePort: port.nullish().transform((number) => number ?? 0),
      destIP: optional(string),
      destPort: optional(port),
      destService: optional(string),
      from: optional(z.enum(['pod', 'node', 'external'], must('pod, node or external'))),
      iface: optional(string),
      call: optional(z.enum(['connect', 'sendto'], must('connect or sendto'))),
    },
    must('an object'),
  )
  .superRefine(({ destIP, destPort, destService }, context) => {
    const refuse = (field: string, message: string): void => context.addIssue({ code: 'custom', path: [field], message });
    if (destService !== undefined && (destIP ?? destPort) !== undefined) refuse('destService', 'must be given without destIP and destPort');
    if (destService === undefined && destIP === undefined) refuse('destIP', 'must be an IP address, is missing');
    if (destService === undefined && destPort === undefined) refuse('destPort', 'must be a port, is missing');
  })
  .transform(({ destIP, destPort, ...rest }): PacketQuery => ({ ...rest, destIP: destIP ?? '', destPort: destPort ?? 0 }));

/** Prints the explanation of the packet, or the explanations of the packets of --flows in the order of the file. Throws ExitError. */
export async function runExplain(options: ExplainOptions): Promise<void> {
  const queries = options.flowsFile === undefined ? [packetOf(options)] : flowsOf(options.flowsFile);
  const explanations =
    options.objects === undefined ? await askDaemon(options, queries) : await askObjects(options, options.objects, queries);
  if (!options.isJson) {
    const texts = printableValue(explanations).map((explanation, i) => explanationText(explanation, printableValue(queries[i])));
    return options.out(texts.join('\n'));
  }
  const [only] = explanations;
  options.out(`${printableJson(JSON.stringify(options.flowsFile === undefined ? only : explanations, undefined, 2))}\n`);
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
  for (const problem of problems) options.err(`sluice: ${printable(problem)}\n`);
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

/**
 * Whether the destination names a Service, such as "web.default:http" or "default/web:80". explain/destination.ts checks the parts of the
 * name.
 */
function isServiceName(text: string): boolean {
  const host = text.replace(/:[^:]*$/, '');
  return /^[a-z0-9][-a-z0-9./]*$/.test(host) && /[a-z]/.test(host) && parseAddress(host) === undefined;
}

function packetOf({ packet, from, iface, call }: ExplainOptions): PacketQuery {
  const [protocol = '', source = '', destination = '', ...rest] = packet;
  if (destination === '' || rest.length > 0)
    throw usage('pass PROTOCOL SOURCE:PORT DESTINATION:PORT, such as tcp 10.180.0.5:4242 10.96.0.10:80, or --flows FILE');
  const { ip: sourceIP, port: sourcePort } = endOf(source, 'source', true);
  const common = { protocol, sourceIP, sourcePort, from, iface, call };
  if (isServiceName(destination)) return read({ ...common, destService: destination }, 'the packet');
  const { ip: destIP, port: destPort } = endOf(destination, 'destination', false);
  return read({ ...common, destIP, destPort }, 'the packet');
}

function flowsOf(path: string): PacketQuery[] {
  const flows = parsed(path);
  if (!Array.isArray(flows)) throw new ExitError(ExitCode.config, `${path} must contain a list of packets`);
  return flows.map((flow: unknown, index) => read(flow, `${path}[${index}]`));
}

function parsed(path: string): unknown {
  let source: string;
  try {
    source = readBoundedText(path, { maxBytes: MAX_FLOWS_BYTES, waitsForPipe: true });
    checkNesting(source);
  } catch (error) {
    throw new ExitError(ExitCode.config, `cannot read the --flows file ${path}: ${systemReason(error)}`, { cause: error });
  }
  try {
    // Warnings are off, because the parser would pass them to process.emitWarning().
    return parse(source, { logLevel: 'error' });
  } catch (error) {
    throw new ExitError(ExitCode.config, `the --flows file ${path} is neither YAML nor JSON: ${yamlReason(error)}`, { cause: error });
  }
}

function read(raw: unknown, where: string): PacketQuery {
  const result = querySchema.safeParse(raw, { error: () => 'is not valid' });
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const field = issue === undefined || issue.path.length === 0 ? '' : `.${issue.path.join('.')}`;
  throw usage(`${where}${field}: ${issue?.message ?? 'is not valid'}`);
}

/** The protobuf message in the form that `-o json` prints. */
const explanationOf = (message: ExplanationMessage): Explanation => ({
  verdict: message.verdict as Explanation['verdict'],
  frontend: message.frontend === null ? null : (message.frontend as Explanation['frontend']),
  candidates: message.candidates,
  moreCandidates: message.moreCandidates,
  backend: message.backend === '' ? null : message.backend,
  masquerade: message.masquerade,
  reason: message.reason,
  steps: message.steps as Explanation['steps'],
});

function explanationText(explanation: Explanation, query: PacketQuery | undefined): string {
  const width = Math.max(...explanation.steps.map(({ step }) => step.length));
  const destination = query?.destService ?? `${query?.destIP} port ${query?.destPort}`;
  const head = query === undefined ? '' : `${query.protocol} ${query.sourceIP} -> ${destination}\n`;
  const lines = explanation.steps.map(
    ({ step, text, entry }) => `  ${step.padEnd(width)}   ${text}${entry === '' ? '' : `   [${entry}]`}\n`,
  );
  return `${head}${lines.join('')}`;
}
