// SPDX-License-Identifier: Apache-2.0
// The text of `sluice status`: one line "Key:  State  detail" per subject, with the problems indented below it. Pure. The states
// decide the exit code: Degraded and NotReady are failures, Warning is not. Called by run.ts.
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import type { SourceProblem__Output as SourceProblem } from '../../proto/gen/sluice/v1/SourceProblem.ts';
import { counted } from './table.ts';

type State = 'Ok' | 'Warning' | 'Degraded' | 'NotReady';

interface Line {
  readonly key: string;
  readonly state: State;
  readonly detail: string;
  readonly below?: readonly string[];
}

/** A map with this pressure is almost full. */
const warningPressure = 0.9;
const shownRepairs = 5;

/** False when a line says Degraded or NotReady. */
export function isHealthy(status: Status): boolean {
  return linesOf(status).every(({ state }) => state === 'Ok' || state === 'Warning');
}

/** The whole text. */
export function statusText(status: Status): string {
  const lines = linesOf(status);
  const keyWidth = Math.max(...lines.map(({ key }) => key.length)) + 1;
  const stateWidth = Math.max(...lines.map(({ state }) => state.length));
  const block = lines.flatMap(({ key, state, detail, below = [] }) => [
    `${`${key}:`.padEnd(keyWidth)}   ${state.padEnd(stateWidth)}   ${detail}`.trimEnd(),
    ...below.map((each) => `  - ${each}`),
  ]);
  return `${[...block, ...details(status)].join('\n')}\n`;
}

function linesOf(status: Status): Line[] {
  return [
    agentLine(status),
    { key: 'Ready', state: status.ready ? 'Ok' : 'NotReady', detail: status.ready ? 'yes' : 'no', below: status.notReadyReasons },
    ...status.sources.map(sourceLine),
    reconcileLine(status),
    conflictLine(status),
    {
      key: 'Host',
      state: status.hostProblems.length === 0 ? 'Ok' : 'Degraded',
      detail: status.hostProblems.length === 0 ? 'meets all requirements' : counted(status.hostProblems.length, 'problem'),
      below: status.hostProblems,
    },
    attachmentLine(status),
    repairLine(status),
    mapLine(status),
  ];
}

function agentLine({ agent }: Status): Line {
  if (agent === null) return { key: 'Sluice', state: 'Degraded', detail: 'the daemon did not report its version' };
  const { version, commit, libbpf, kernel, node, pid, uptimeSeconds } = agent;
  const program = `${version}${commit === '' ? '' : ` (commit ${commit})`}, libbpf ${libbpf}, kernel ${kernel}`;
  return { key: 'Sluice', state: 'Ok', detail: `${program}; node ${node}, pid ${pid}, up ${duration(Number(uptimeSeconds))}` };
}

function sourceLine({ name, initialized, complete, problems }: Status['sources'][number]): Line {
  const state = !initialized ? 'NotReady' : problems.length > 0 || !complete ? 'Degraded' : 'Ok';
  const parts = [
    initialized ? 'first list complete' : 'first list not complete',
    complete ? '' : 'a part could not be read',
    counted(problems.length, 'problem'),
  ];
  return { key: 'Source', state, detail: `${name}: ${parts.filter((part) => part !== '').join(', ')}`, below: problems.map(problemText) };
}

function problemText({ file, line, kind, object, field, message }: SourceProblem): string {
  const place = file === '' ? '' : line === 0 ? file : `${file}:${line}`;
  const what = [kind, object, field].filter((part) => part !== '').join(' ');
  return [place, what, message].filter((part) => part !== '').join(': ');
}

function reconcileLine({ reconcile, counts }: Status): Line {
  if (reconcile === null) return { key: 'Reconcile', state: 'Degraded', detail: 'not reported by the daemon' };
  const wanted =
    counts === null
      ? ''
      : `; ${counted(counts.services, 'Service')}, ${counted(counts.frontends, 'frontend')}, ${counted(counts.backends, 'backend')} desired`;
  return {
    key: 'Reconcile',
    state: Number(reconcile.error) > 0 ? 'Degraded' : 'Ok',
    detail: `${reconcile.done} done, ${reconcile.pending} pending, ${reconcile.error} failed${wanted}`,
    below: reconcile.errors.map(({ key, message, retries }) => `${key}: ${message} (${counted(retries, 'attempt')})`),
  };
}

function conflictLine({ conflicts }: Status): Line {
  return {
    key: 'Conflicts',
    state: conflicts.length === 0 ? 'Ok' : 'Warning',
    detail:
      conflicts.length === 0
        ? 'every frontend is claimed by one Service only'
        : `${counted(conflicts.length, 'frontend')} claimed by more than one Service`,
    below: conflicts.map(({ frontend, owner, contenders }) => `${frontend}: served for ${owner}, not for ${contenders.join(', ')}`),
  };
}

function attachmentLine({ attachments }: Status): Line {
  const kinds = Map.groupBy(attachments, ({ kind }) => kind.replace('ATTACHMENT_KIND_', '').toLowerCase());
  const shares = [...kinds].map(([kind, group]) => `${group.length} ${kind}`).join(', ');
  if (attachments.length === 0) return { key: 'Programs', state: 'Warning', detail: 'none attached: no packet is translated' };
  return { key: 'Programs', state: 'Ok', detail: `${attachments.length} attached (${shares})` };
}

function repairLine({ repairs }: Status): Line {
  if (repairs === null) return { key: 'Repairs', state: 'Ok', detail: 'not reported by the daemon' };
  const { total, last, problems } = repairs;
  return {
    key: 'Repairs',
    state: problems.length > 0 ? 'Degraded' : Number(total) > 0 ? 'Warning' : 'Ok',
    detail: Number(total) === 0 ? 'no drift' : `${counted(total, 'difference')} repaired`,
    below: [...problems, ...last.slice(0, shownRepairs).map(({ sentence, time }) => `${time} ${sentence}`)],
  };
}

function mapLine({ maps }: Status): Line {
  const almostFull = maps.filter(({ pressure }) => pressure >= warningPressure);
  const [fullest] = maps.filter(({ pressure }) => pressure >= 0).toSorted((a, b) => b.pressure - a.pressure);
  return {
    key: 'Maps',
    state: almostFull.length === 0 ? 'Ok' : 'Warning',
    detail: fullest === undefined ? counted(maps.length, 'map') : `${counted(maps.length, 'map')}, fullest: ${mapText(fullest)}`,
    below: almostFull.map((map) => `${mapText(map)}: increase the corresponding --max-... setting`),
  };
}

const mapText = ({ name, used, capacity, pressure }: Status['maps'][number]): string =>
  `${name} with ${used} of ${capacity} entries (${(pressure * 100).toFixed(1)} %)`;

function details(status: Status): string[] {
  const attached = status.attachments.map(({ hook, target, kind, program }) => {
    return `    ${program} on ${target} ${hook} (${kind.replace('ATTACHMENT_KIND_', '').toLowerCase()})`;
  });
  return [
    '',
    'KubeProxyReplacement Details:',
    `  Status:       ${status.ready && attached.length > 0 ? 'True' : 'False'}`,
    `  Socket LB:    ${status.socketLb ? 'Enabled' : 'Disabled'}`,
    '  Protocols:    TCP, UDP',
    '  Services:',
    '    - ClusterIP',
    `  Programs:${attached.length === 0 ? '     none' : ''}`,
    ...attached,
    `  Drops:${status.drops.length === 0 ? '        none' : ''}`,
    ...status.drops.map(({ reason, packets, bytes }) => `    ${reason}: ${counted(packets, 'packet')}, ${counted(bytes, 'byte')}`),
  ];
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
  return first === -1
    ? '0s'
    : parts
        .slice(first, first + 2)
        .map(([amount, unit]) => `${amount}${unit}`)
        .join('');
}
