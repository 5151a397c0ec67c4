// SPDX-License-Identifier: Apache-2.0
// `sluice status` for people: one "Key:  Word  detail" line per matter, details of trouble indented below it. Pure.
// The words decide the exit code: Degraded and NotReady are failures, Warning is not.
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import type { SourceProblem__Output as SourceProblem } from '../../proto/gen/sluice/v1/SourceProblem.ts';
import { counted } from './table.ts';

type Word = 'Ok' | 'Warning' | 'Degraded' | 'NotReady';

interface Line {
  readonly key: string;
  readonly word: Word;
  readonly detail: string;
  readonly below?: readonly string[];
}

/** From this pressure on a map is about to refuse. */
const tightPressure = 0.9;
const shownRepairs = 5;

/** False when a line says Degraded or NotReady. */
export function isHealthy(status: Status): boolean {
  return linesOf(status).every(({ word }) => word === 'Ok' || word === 'Warning');
}

/** The whole block. */
export function statusText(status: Status): string {
  const lines = linesOf(status);
  const keyWidth = Math.max(...lines.map(({ key }) => key.length)) + 1;
  const wordWidth = Math.max(...lines.map(({ word }) => word.length));
  const block = lines.flatMap(({ key, word, detail, below = [] }) => [
    `${`${key}:`.padEnd(keyWidth)}   ${word.padEnd(wordWidth)}   ${detail}`.trimEnd(),
    ...below.map((each) => `  - ${each}`),
  ]);
  return `${[...block, ...details(status)].join('\n')}\n`;
}

function linesOf(status: Status): Line[] {
  return [
    agentLine(status),
    { key: 'Ready', word: status.ready ? 'Ok' : 'NotReady', detail: status.ready ? 'yes' : 'no', below: status.notReadyReasons },
    ...status.sources.map(sourceLine),
    reconcileLine(status),
    conflictLine(status),
    {
      key: 'Host',
      word: status.hostProblems.length === 0 ? 'Ok' : 'Degraded',
      detail: status.hostProblems.length === 0 ? 'has all that is needed' : counted(status.hostProblems.length, 'problem'),
      below: status.hostProblems,
    },
    attachmentLine(status),
    repairLine(status),
    mapLine(status),
  ];
}

function agentLine({ agent }: Status): Line {
  if (agent === null) return { key: 'Sluice', word: 'Degraded', detail: 'the daemon did not say what it is' };
  const { version, commit, libbpf, kernel, node, pid, uptimeSeconds } = agent;
  const program = `${version}${commit === '' ? '' : ` (commit ${commit})`}, libbpf ${libbpf}, kernel ${kernel}`;
  return { key: 'Sluice', word: 'Ok', detail: `${program}; node ${node}, pid ${pid}, up ${duration(Number(uptimeSeconds))}` };
}

function sourceLine({ name, initialized, complete, problems }: Status['sources'][number]): Line {
  const word = !initialized ? 'NotReady' : problems.length > 0 || !complete ? 'Degraded' : 'Ok';
  const parts = [
    initialized ? 'first list done' : 'first list not finished',
    complete ? '' : 'partly unread',
    counted(problems.length, 'problem'),
  ];
  return { key: 'Source', word, detail: `${name}: ${parts.filter((part) => part !== '').join(', ')}`, below: problems.map(problemText) };
}

function problemText({ file, line, kind, object, field, message }: SourceProblem): string {
  const place = file === '' ? '' : line === 0 ? file : `${file}:${line}`;
  const what = [kind, object, field].filter((part) => part !== '').join(' ');
  return [place, what, message].filter((part) => part !== '').join(': ');
}

function reconcileLine({ reconcile, counts }: Status): Line {
  if (reconcile === null) return { key: 'Reconcile', word: 'Degraded', detail: 'the daemon did not say' };
  const wanted =
    counts === null
      ? ''
      : `; ${counted(counts.services, 'Service')}, ${counted(counts.frontends, 'frontend')}, ${counted(counts.backends, 'backend')} wanted`;
  return {
    key: 'Reconcile',
    word: Number(reconcile.error) > 0 ? 'Degraded' : 'Ok',
    detail: `${reconcile.done} done, ${reconcile.pending} pending, ${reconcile.error} failed${wanted}`,
    below: reconcile.errors.map(({ key, message, retries }) => `${key}: ${message} (${counted(retries, 'attempt')})`),
  };
}

function conflictLine({ conflicts }: Status): Line {
  return {
    key: 'Conflicts',
    word: conflicts.length === 0 ? 'Ok' : 'Warning',
    detail:
      conflicts.length === 0 ? 'no frontend is claimed twice' : `${counted(conflicts.length, 'frontend')} claimed by more than one Service`,
    below: conflicts.map(({ frontend, owner, contenders }) => `${frontend}: ${owner} has it, ${contenders.join(', ')} does not get it`),
  };
}

function attachmentLine({ attachments }: Status): Line {
  const kinds = Map.groupBy(attachments, ({ kind }) => kind.replace('ATTACHMENT_KIND_', '').toLowerCase());
  const shares = [...kinds].map(([kind, group]) => `${group.length} ${kind}`).join(', ');
  if (attachments.length === 0) return { key: 'Programs', word: 'Warning', detail: 'none attached: no packet is translated' };
  return { key: 'Programs', word: 'Ok', detail: `${attachments.length} attached (${shares})` };
}

function repairLine({ repairs }: Status): Line {
  if (repairs === null) return { key: 'Repairs', word: 'Ok', detail: 'the daemon did not say' };
  const { total, last, problems } = repairs;
  return {
    key: 'Repairs',
    word: problems.length > 0 ? 'Degraded' : Number(total) > 0 ? 'Warning' : 'Ok',
    detail: Number(total) === 0 ? 'nothing was changed by others' : `${counted(total, 'thing')} changed by others and put back`,
    below: [...problems, ...last.slice(0, shownRepairs).map(({ sentence, time }) => `${time} ${sentence}`)],
  };
}

function mapLine({ maps }: Status): Line {
  const tight = maps.filter(({ pressure }) => pressure >= tightPressure);
  const [fullest] = maps.filter(({ pressure }) => pressure >= 0).toSorted((a, b) => b.pressure - a.pressure);
  return {
    key: 'Maps',
    word: tight.length === 0 ? 'Ok' : 'Warning',
    detail: fullest === undefined ? counted(maps.length, 'map') : `${counted(maps.length, 'map')}, the fullest ${mapText(fullest)}`,
    below: tight.map((map) => `${mapText(map)}: give it room with a larger --max-... setting`),
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
