// SPDX-License-Identifier: Apache-2.0
// Decides how severe each part of the status is, with one line per subject. The gRPC API returns the lines; `sluice status`
// prints them and derives its exit code from them. Degraded and NotReady are failures, Warning is not. Pure.
import type { AgentStatus, MapStatus, Severity, SourceProblem, SourceStatus, StatusLine } from './view.ts';

/** A map with this pressure is almost full. */
const warningPressure = 0.9;
const shownRepairs = 5;

/** One line for each subject of the status, in the order in which people read them. */
export function statusLines(status: AgentStatus): StatusLine[] {
  return [
    agentLine(status),
    line('Ready', status.ready ? 'Ok' : 'NotReady', { summary: status.ready ? 'yes' : 'no', details: status.reasons }),
    ...status.sources.map(sourceLine),
    reconcileLine(status),
    conflictLine(status),
    hostLine(status),
    attachmentLine(status),
    repairLine(status),
    mapLine(status),
  ];
}

/** How full a map is, 0 to 1; undefined when that is unknown. */
export function mapPressure(map: MapStatus): number | undefined {
  return map.used === undefined || map.capacity === 0 ? undefined : map.used / map.capacity;
}

const line = (subject: string, severity: Severity, rest: { summary: string; details?: readonly string[] }): StatusLine => ({
  ...{ subject, severity, summary: rest.summary, details: rest.details ?? [] },
});

const counted = (count: number | bigint, noun: string): string => `${count} ${noun}${Number(count) === 1 ? '' : 's'}`;

function agentLine({ version, commit, libbpf, kernel, node, pid, uptimeSeconds }: AgentStatus): StatusLine {
  const program = `${version}${commit === '' ? '' : ` (commit ${commit})`}, libbpf ${libbpf}, kernel ${kernel}`;
  return line('Sluice', 'Ok', { summary: `${program}; node ${node}, pid ${pid}, up ${duration(uptimeSeconds)}` });
}

function sourceLine({ name, isInitialized, isComplete, problems }: SourceStatus): StatusLine {
  const severity = !isInitialized ? 'NotReady' : problems.length > 0 || !isComplete ? 'Degraded' : 'Ok';
  const parts = [
    isInitialized ? 'first list complete' : 'first list not complete',
    isComplete ? '' : 'a part could not be read',
    counted(problems.length, 'problem'),
  ];
  return line('Source', severity, {
    summary: `${name}: ${parts.filter((part) => part !== '').join(', ')}`,
    details: problems.map(problemText),
  });
}

function problemText({ file, line: number, kind, object, field, message }: SourceProblem): string {
  const place = file === '' ? '' : number === 0 ? file : `${file}:${number}`;
  const what = [kind, object, field].filter((part) => part !== '').join(' ');
  return [place, what, message].filter((part) => part !== '').join(': ');
}

function reconcileLine({ reconcile: { done, pending, error, errors }, counts }: AgentStatus): StatusLine {
  const sizes = [counted(counts.services, 'Service'), counted(counts.frontends, 'frontend'), counted(counts.backends, 'backend')];
  return line('Reconcile', error > 0 ? 'Degraded' : 'Ok', {
    summary: `${done} done, ${pending} pending, ${error} failed; ${sizes.join(', ')} desired`,
    details: errors.map(({ key, message, retries }) => `${key}: ${message} (${counted(retries, 'attempt')})`),
  });
}

function conflictLine({ conflicts }: AgentStatus): StatusLine {
  if (conflicts.length === 0) return line('Conflicts', 'Ok', { summary: 'every frontend is claimed by one Service only' });
  return line('Conflicts', 'Warning', {
    summary: `${counted(conflicts.length, 'frontend')} claimed by more than one Service`,
    details: conflicts.map(({ frontend, owner, contenders }) => `${frontend}: served for ${owner}, not for ${contenders.join(', ')}`),
  });
}

function hostLine({ hostProblems }: AgentStatus): StatusLine {
  if (hostProblems.length === 0) return line('Host', 'Ok', { summary: 'meets all requirements' });
  return line('Host', 'Degraded', { summary: counted(hostProblems.length, 'problem'), details: hostProblems });
}

function attachmentLine({ attachments }: AgentStatus): StatusLine {
  if (attachments.length === 0) return line('Programs', 'Warning', { summary: 'none attached: no packet is translated' });
  const shares = [...Map.groupBy(attachments, ({ kind }) => kind)].map(([kind, group]) => `${group.length} ${kind}`);
  return line('Programs', 'Ok', { summary: `${attachments.length} attached (${shares.join(', ')})` });
}

function repairLine({ repairs: { total, last, problems } }: AgentStatus): StatusLine {
  const severity = problems.length > 0 ? 'Degraded' : total > 0 ? 'Warning' : 'Ok';
  return line('Repairs', severity, {
    summary: total === 0 ? 'no drift' : `${counted(total, 'difference')} repaired`,
    details: [...problems, ...last.slice(0, shownRepairs).map(({ sentence, at }) => `${new Date(at).toISOString()} ${sentence}`)],
  });
}

function mapLine({ maps }: AgentStatus): StatusLine {
  const known = maps.flatMap((map) => {
    const pressure = mapPressure(map);
    return pressure === undefined ? [] : [{ map, pressure }];
  });
  const text = ({ map, pressure }: (typeof known)[number]): string =>
    `${map.name} with ${map.used} of ${map.capacity} entries (${(pressure * 100).toFixed(1)} %)`;
  const almostFull = known.filter(({ pressure }) => pressure >= warningPressure);
  const [fullest] = known.toSorted((a, b) => b.pressure - a.pressure);
  return line('Maps', almostFull.length === 0 ? 'Ok' : 'Warning', {
    summary: fullest === undefined ? counted(maps.length, 'map') : `${counted(maps.length, 'map')}, fullest: ${text(fullest)}`,
    details: almostFull.map((each) => `${text(each)}: increase the corresponding --max-... setting`),
  });
}

/** "1d2h", "1h2m", "2m5s", "5s": the two largest units. */
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
