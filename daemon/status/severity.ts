// SPDX-License-Identifier: Apache-2.0
// Decides how severe each part of the status is, with one line per subject, and how severe the whole is. The gRPC API returns both;
// `sluice status` prints them and derives its exit code from them. Degraded and NotReady are failures, Warning is not. NotReady is in
// the lines exactly when the agent is not ready, as /readyz and the gRPC health service report it. Pure.
import type { OpenFlows } from '../model/phase.ts';
import type { AgentStatus, ConflictStatus, FindingKind, MapStatus, Severity, SourceStatus, StatusLine } from './view.ts';

/** Share of used entries from which on the status warns that a map is almost full. */
const warningPressure = 0.9;
const shownRepairs = 5;
/** Maximum number of details of one line. A person reads the first ones; the API has complete lists in other fields. */
const shownDetails = 20;
const shownContenders = 3;

/** The severity of the problems of each finding. */
const findingSeverities: Readonly<Record<FindingKind, Severity>> = {
  node: 'Warning',
  // Rules of others may accept the packets that the policy would drop.
  firewall: 'Warning',
  devices: 'Warning',
  missingPrograms: 'Degraded',
  otherAgents: 'Warning',
  displacedPrograms: 'Warning',
  // On many nodes other agents have programs ahead of ours and pass every packet on. Nothing shows that something is wrong.
  programsAhead: 'Ok',
  mapSizes: 'Warning',
  networkPolicies: 'Warning',
};

/** The severities, from the mildest to the most severe. */
const order: readonly Severity[] = ['Ok', 'Warning', 'Degraded', 'NotReady'];

/** One line for each subject of the status, in the order in which people read them. */
export function statusLines(status: AgentStatus): StatusLine[] {
  return [
    agentLine(status),
    line('Ready', status.ready ? 'Ok' : 'NotReady', { summary: status.ready ? 'yes' : 'no', details: status.reasons }),
    ...status.sources.map((source) => sourceLine(source, status.ready)),
    findingLine('Node', 'node', status),
    reconcileLine(status),
    conflictLine(status),
    ...unservedLines(status),
    ...handoverLines(status),
    hostLine(status),
    findingLine('Devices', 'devices', status),
    attachmentLine(status),
    repairLine(status),
    mapLine(status),
    findingLine('Policies', 'networkPolicies', status),
    ...logLines(status),
  ];
}

/** The severity of the whole agent: that of the most severe line. */
export const overallSeverity = (lines: readonly StatusLine[]): Severity => worst(...lines.map(({ severity }) => severity));

const worst = (...severities: readonly Severity[]): Severity =>
  severities.reduce((most, severity) => (order.indexOf(severity) > order.indexOf(most) ? severity : most), 'Ok');

/** How full a map is, 0 to 1; undefined when that is unknown. */
export function mapPressure(map: MapStatus): number | undefined {
  return map.used === undefined || map.capacity === 0 ? undefined : map.used / map.capacity;
}

function line(
  subject: string,
  severity: Severity,
  { summary, details = [] }: { summary: string; details?: readonly string[] },
): StatusLine {
  const more = details.length - shownDetails;
  return { subject, severity, summary, details: more > 0 ? [...details.slice(0, shownDetails), `and ${more} more`] : details };
}

/** The severity and the details of the findings of these kinds together. */
function judged({ findings }: AgentStatus, ...kinds: readonly FindingKind[]): { severity: Severity; details: readonly string[] } {
  const present = kinds.filter((kind) => findings[kind].problems.length > 0);
  return {
    severity: worst(...present.map((kind) => findingSeverities[kind])),
    details: present.flatMap((kind) => findings[kind].problems),
  };
}

function findingLine(subject: string, kind: FindingKind, status: AgentStatus): StatusLine {
  const { severity, details } = judged(status, kind);
  return line(subject, severity, { summary: status.findings[kind].summary, details });
}

const counted = (count: number | bigint, noun: string, plural = `${noun}s`): string => `${count} ${Number(count) === 1 ? noun : plural}`;

function agentLine({ version, commit, libbpf, kernel, node, pid, uptimeSeconds }: AgentStatus): StatusLine {
  const program = `${version}${commit === '' ? '' : ` (commit ${commit})`}, libbpf ${libbpf}, kernel ${kernel}`;
  return line('Sluice', 'Ok', { summary: `${program}; node ${node}, pid ${pid}, up ${duration(uptimeSeconds)}` });
}

function sourceLine({ name, isInitialized, isComplete, problems, omissions = '' }: SourceStatus, isReady: boolean): StatusLine {
  const severity = !isInitialized && !isReady ? 'NotReady' : problems.length > 0 || !isComplete || !isInitialized ? 'Degraded' : 'Ok';
  const parts = [
    isInitialized ? 'first list complete' : 'first list not complete',
    isComplete ? '' : 'some objects or files could not be read',
    counted(problems.length, 'problem'),
    omissions,
  ];
  return line('Source', severity, {
    summary: `${name}: ${parts.filter((part) => part !== '').join(', ')}`,
    // The message already names file, line, object and field.
    details: problems.map(({ message }) => message),
  });
}

function reconcileLine({ reconcile: { done, pending, error, errors }, counts }: AgentStatus): StatusLine {
  const sizes = [counted(counts.services, 'Service'), counted(counts.frontends, 'frontend'), counted(counts.backends, 'backend')];
  return line('Reconcile', error > 0 || errors.length > 0 ? 'Degraded' : 'Ok', {
    summary: `${done} done, ${pending} pending, ${error} failed; ${sizes.join(', ')} desired`,
    details: errors.map(({ key, message, retries }) => `${key}: ${message} (${counted(retries, 'attempt')})`),
  });
}

function conflictLine({ conflicts, conflictCount = conflicts.length }: AgentStatus): StatusLine {
  if (conflicts.length === 0) return line('Conflicts', 'Ok', { summary: 'every frontend is claimed by one Service only' });
  return line('Conflicts', 'Warning', {
    summary: `${counted(conflictCount, 'frontend')} claimed by more than one Service`,
    details: conflicts.map(conflictText),
  });
}

/** One sentence about a contested frontend. */
export function conflictText({ frontend, owner, contenders, more: unlisted = 0 }: ConflictStatus): string {
  const more = contenders.length + unlisted - shownContenders;
  const others = `${contenders.slice(0, shownContenders).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  return `${frontend}: served for ${owner}, not for ${others}`;
}

/**
 * Returns no line when everything is served. Frontends that the operator excluded are not a problem; their line explains why they are not
 * served.
 */
function unservedLines({ unserved: { refused, excluded, limited = [] } }: AgentStatus): StatusLine[] {
  const protectedLine = line('Refused', 'Warning', {
    summary: `${counted(refused.length, 'entry', 'entries')} would take over the connection to the API server`,
    details: refused,
  });
  const excludedLine = line('External IPs', 'Ok', {
    summary: `${counted(excluded.length, 'Service')} with external IPs that --external-ips excludes`,
    details: excluded,
  });
  const limitedLine = line('Endpoints', 'Warning', {
    summary: `${counted(limited.length, 'Service')} with more endpoints than one Service may use`,
    details: limited,
  });
  return [
    ...(refused.length === 0 ? [] : [protectedLine]),
    ...(limited.length === 0 ? [] : [limitedLine]),
    ...(excluded.length === 0 ? [] : [excludedLine]),
  ];
}

/** Returns no line if every connection is served. */
function handoverLines({ handover: { phase, openFlows } }: AgentStatus): StatusLine[] {
  switch (phase) {
    case 'serving':
      return [];
    case 'migrating': {
      const summary = 'migrating: connections that kube-proxy has opened pass untouched';
      return [line('Handover', 'Ok', { summary: `${summary}; when they have ended, or if there were none: \`sluice migrate --done\`` })];
    }
    case 'draining': {
      const summary = 'draining: new connections are left to kube-proxy';
      return [line('Handover', 'Warning', { summary: `${summary}; ${openText(openFlows)}` })];
    }
  }
}

function openText(flows: OpenFlows | undefined): string {
  if (flows === undefined) return 'the open flows are being counted';
  const { tcp, udp, sctp } = flows;
  if (tcp + udp + sctp === 0) return 'no flow is open: stop sluiced, then `sluice uninstall`';
  return `open: ${counted(tcp, 'TCP flow')}, ${counted(udp, 'UDP flow')}, ${counted(sctp, 'SCTP flow')}`;
}

function hostLine(status: AgentStatus): StatusLine {
  const firewall = judged(status, 'firewall');
  const details = [...status.hostProblems, ...firewall.details];
  if (details.length === 0) return line('Host', 'Ok', { summary: 'no problem found' });
  const severity = status.hostProblems.length > 0 ? 'Degraded' : firewall.severity;
  return line('Host', severity, { summary: counted(details.length, 'problem'), details });
}

function attachmentLine(status: AgentStatus): StatusLine {
  const { attachments, findings } = status;
  const { severity, details } = judged(status, 'missingPrograms', 'otherAgents', 'displacedPrograms', 'programsAhead');
  if (attachments.length === 0)
    return line('Programs', worst(severity, 'Warning'), { summary: 'none attached: no packet is translated', details });
  const missing = findings.missingPrograms.problems.length;
  const shares = [...Map.groupBy(attachments, ({ kind }) => kind)].map(([kind, group]) => `${group.length} ${kind}`);
  const summary = missing === 0 ? `${attachments.length} attached` : `${attachments.length - missing} of ${attachments.length} attached`;
  return line('Programs', severity, { summary: `${summary} (${shares.join(', ')})`, details });
}

function repairLine({ repairs: { total, last, problems } }: AgentStatus): StatusLine {
  const severity = problems.length > 0 ? 'Degraded' : total > 0 ? 'Warning' : 'Ok';
  return line('Repairs', severity, {
    summary: `${counted(total, 'difference')} repaired`,
    details: [...problems, ...last.slice(0, shownRepairs).map(({ sentence, at }) => `${new Date(at).toISOString()} ${sentence}`)],
  });
}

function mapLine(status: AgentStatus): StatusLine {
  const { maps } = status;
  const sizes = judged(status, 'mapSizes');
  const known = maps.flatMap((map) => {
    const pressure = mapPressure(map);
    return pressure === undefined ? [] : [{ map, pressure }];
  });
  const text = ({ map, pressure }: (typeof known)[number]): string =>
    `${map.name} with ${map.used} of ${map.capacity} entries (${(pressure * 100).toFixed(1)} %)`;
  const almostFull = known.filter(({ pressure }) => pressure >= warningPressure);
  const [fullest] = known.toSorted((a, b) => b.pressure - a.pressure);
  return line('Maps', worst(almostFull.length === 0 ? 'Ok' : 'Warning', sizes.severity), {
    summary: fullest === undefined ? counted(maps.length, 'map') : `${counted(maps.length, 'map')}, fullest: ${text(fullest)}`,
    details: [...almostFull.map((each) => `${text(each)}${growth(each.map)}`), ...sizes.details],
  });
}

/** How to enlarge the map; "" for a map of fixed size. */
const growth = ({ flag }: MapStatus): string =>
  flag === undefined ? '' : `: increase --${flag}, which takes effect when sluiced starts after \`sluice uninstall\``;

/** Returns no line if every log line could be written. */
function logLines({ log: { droppedLines, reason } }: AgentStatus): StatusLine[] {
  if (droppedLines === 0) return [];
  const why = reason === undefined ? '' : `: ${reason}`;
  return [line('Log', 'Warning', { summary: `${counted(droppedLines, 'line')} lost, because writing to stderr failed${why}` })];
}

/** A duration in its two largest units: "1d2h", "1h2m", "2m5s", "5s". */
function duration(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [Math.floor(seconds) % 60, 's'],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  const shown = first === -1 ? [] : parts.slice(first, first + 2);
  return shown.length === 0 ? '0s' : shown.map(([amount, unit]) => `${amount}${unit}`).join('');
}
