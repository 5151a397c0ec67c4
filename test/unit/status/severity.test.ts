// SPDX-License-Identifier: Apache-2.0
// Each fact in the status of the agent has one severity. All outputs show this severity.
import { expect, test } from 'vitest';
import { overallSeverity, statusLines } from '../../../daemon/status/severity.ts';
import type { AgentStatus, FindingKind, MapStatus, SourceStatus, StatusLine } from '../../../daemon/status/view.ts';
import { status as healthyStatus } from '../api/fixture.ts';

const severityOf = (subject: string, change: Partial<AgentStatus>): string | undefined =>
  statusLines({ ...healthyStatus, ...change }).find((line) => line.subject === subject)?.severity;

const source: SourceStatus = { name: 'files /etc', isInitialized: true, isComplete: true, problems: [] };
const map: MapStatus = { name: 'lb_slots', type: 'array', capacity: 100, used: 10 };
const problem = { file: 'web.yaml', line: 7, kind: 'Service', object: 'default/web', field: '', message: 'is invalid' };
const noRepairs = { total: 0, last: [], problems: [] };

test('every status line of a healthy agent has severity Ok', () => {
  expect(statusLines(healthyStatus).map(({ subject, severity }) => `${subject} ${severity}`)).toEqual(
    [...['Sluice', 'Ready', 'Source', 'Node', 'Reconcile', 'Conflicts', 'Host', 'Devices', 'Programs', 'Repairs', 'Maps', 'Policies']].map(
      (subject) => `${subject} Ok`,
    ),
  );
  expect(overallSeverity(statusLines(healthyStatus))).toBe('Ok');
});

test.for<{ subject: string; change: Partial<AgentStatus>; want: string }>([
  { subject: 'Ready', change: { ready: false, reasons: ['the first reconcile is not finished'] }, want: 'NotReady' },
  { subject: 'Source', change: { ready: false, sources: [{ ...source, isInitialized: false }] }, want: 'NotReady' },
  { subject: 'Source', change: { sources: [{ ...source, isComplete: false }] }, want: 'Degraded' },
  { subject: 'Source', change: { sources: [{ ...source, problems: [problem] }] }, want: 'Degraded' },
  { subject: 'Source', change: { sources: [source] }, want: 'Ok' },
  { subject: 'Reconcile', change: { reconcile: { done: 0, pending: 3, error: 0, errors: [] } }, want: 'Ok' },
  { subject: 'Reconcile', change: { reconcile: { done: 0, pending: 0, error: 1, errors: [] } }, want: 'Degraded' },
  // No row of the Service ports has failed, but a step of a loop or a row of another loop has.
  {
    subject: 'Reconcile',
    change: { reconcile: { done: 9, pending: 0, error: 0, errors: [{ key: 'prune of ports', message: 'EIO', retries: 2 }] } },
    want: 'Degraded',
  },
  { subject: 'Conflicts', change: { conflicts: [{ frontend: 'f', owner: 'a', contenders: ['b'] }] }, want: 'Warning' },
  { subject: 'Refused', change: { unserved: { refused: ['Service a/b'], excluded: [] } }, want: 'Warning' },
  { subject: 'Endpoints', change: { unserved: { refused: [], excluded: [], limited: ['Service a/b'] } }, want: 'Warning' },
  { subject: 'External IPs', change: { unserved: { refused: [], excluded: ['Service a/b'] } }, want: 'Ok' },
  { subject: 'Host', change: { hostProblems: ['net.ipv4.ip_forward is 0'] }, want: 'Degraded' },
  { subject: 'Programs', change: { attachments: [] }, want: 'Warning' },
  { subject: 'Log', change: { log: { droppedLines: 3, reason: 'ENOSPC: no space left on device, write' } }, want: 'Warning' },
  { subject: 'Repairs', change: { repairs: { ...noRepairs, total: 1 } }, want: 'Warning' },
  { subject: 'Repairs', change: { repairs: { ...noRepairs, problems: ['map ct4 could not be repaired'] } }, want: 'Degraded' },
  { subject: 'Repairs', change: { repairs: noRepairs }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map] }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map, { ...map, used: 89 }] }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map, { ...map, used: 90 }] }, want: 'Warning' },
  { subject: 'Maps', change: { maps: [{ ...map, used: undefined }] }, want: 'Ok' },
])('the severity of the line $subject is $want', ({ subject, change, want }) => {
  expect(severityOf(subject, change)).toBe(want);
});

const found = (kind: FindingKind, text: string): Partial<AgentStatus> => ({
  findings: { ...healthyStatus.findings, [kind]: { ...healthyStatus.findings[kind], problems: [text] } },
});

test.for<{ kind: FindingKind; subject: string; want: string }>([
  { kind: 'node', subject: 'Node', want: 'Warning' },
  { kind: 'devices', subject: 'Devices', want: 'Warning' },
  { kind: 'missingPrograms', subject: 'Programs', want: 'Degraded' },
  { kind: 'otherAgents', subject: 'Programs', want: 'Warning' },
  { kind: 'displacedPrograms', subject: 'Programs', want: 'Warning' },
  { kind: 'mapSizes', subject: 'Maps', want: 'Warning' },
  { kind: 'networkPolicies', subject: 'Policies', want: 'Warning' },
])('the finding $kind gives the line $subject the severity $want, and is its detail', ({ kind, subject, want }) => {
  const lines = statusLines({ ...healthyStatus, ...found(kind, 'the problem') });
  expect(lines.find((line) => line.subject === subject)).toMatchObject({ severity: want, details: ['the problem'] });
  expect(lines.filter(({ severity }) => severity !== 'Ok')).toHaveLength(1);
  expect(overallSeverity(lines)).toBe(want);
});

test.for<{ name: string; handover: AgentStatus['handover']; want: Partial<StatusLine> | undefined }>([
  { name: 'serving', handover: { phase: 'serving', openFlows: undefined }, want: undefined },
  {
    name: 'migrating',
    handover: { phase: 'migrating', openFlows: undefined },
    want: { severity: 'Ok', summary: expect.stringContaining('`sluice migrate --done`') as string },
  },
  {
    name: 'draining, not counted',
    handover: { phase: 'draining', openFlows: undefined },
    want: { severity: 'Warning', summary: 'draining: new connections are left to kube-proxy; the open flows are being counted' },
  },
  {
    name: 'draining',
    handover: { phase: 'draining', openFlows: { tcp: 1, udp: 20, sctp: 0 } },
    want: {
      severity: 'Warning',
      summary: 'draining: new connections are left to kube-proxy; open: 1 TCP flow, 20 UDP flows, 0 SCTP flows',
    },
  },
  {
    name: 'drained',
    handover: { phase: 'draining', openFlows: { tcp: 0, udp: 0, sctp: 0 } },
    want: { severity: 'Warning', summary: expect.stringContaining('no flow is open: stop sluiced, then `sluice uninstall`') as string },
  },
])('the line Handover: $name', ({ handover, want }) => {
  const line = statusLines({ ...healthyStatus, handover }).find(({ subject }) => subject === 'Handover');
  if (want === undefined) expect(line).toBeUndefined();
  else expect(line).toMatchObject(want);
});

test('a program of another owner ahead of ours is named in the line Programs and does not change the severity', () => {
  const lines = statusLines({ ...healthyStatus, ...found('programsAhead', 'theirs runs before tc_pod_out on lxc1') });
  const programs = lines.find(({ subject }) => subject === 'Programs');
  expect(programs).toMatchObject({ severity: 'Ok', details: ['theirs runs before tc_pod_out on lxc1'] });
  expect(overallSeverity(lines)).toBe('Ok');
});

test('the programs are said to be attached only if the kernel has them on their hooks', () => {
  const summaryOf = (change: Partial<AgentStatus>): string | undefined =>
    statusLines({ ...healthyStatus, ...change }).find((line) => line.subject === 'Programs')?.summary;
  expect(summaryOf({})).toBe('2 attached (1 tcx, 1 cgroup)');
  expect(summaryOf(found('missingPrograms', 'tc_pod_in on veth0 is not attached'))).toBe('1 of 2 attached (1 tcx, 1 cgroup)');
});

test('NotReady is in the lines exactly when the agent is not ready', () => {
  const notReady = (change: Partial<AgentStatus>): boolean =>
    statusLines({ ...healthyStatus, ...change }).some(({ severity }) => severity === 'NotReady');
  expect(notReady({ ready: false, reasons: ['the first reconcile is not finished'] })).toBe(true);
  expect(notReady({ ready: true, sources: [{ ...source, isInitialized: false }] })).toBe(false);
});

test('a line has a bounded number of details, and a contested frontend a bounded number of names', () => {
  const contenders = Array.from({ length: 10_000 }, (_, index) => `default/s${index}`);
  const conflicts = Array.from({ length: 10_000 }, (_, index) => ({ frontend: `10.0.0.1:${index}/TCP`, owner: 'default/a', contenders }));
  const line = statusLines({ ...healthyStatus, conflicts }).find(({ subject }) => subject === 'Conflicts');
  expect(line?.details).toHaveLength(21);
  expect(line?.details[0]).toBe('10.0.0.1:0/TCP: served for default/a, not for default/s0, default/s1, default/s2 and 9997 more');
  expect(line?.details.at(-1)).toBe('and 9980 more');
});

test('the line of an almost full map names the setting that determines its size, and how the setting takes effect', () => {
  const line = (flag?: string): readonly string[] | undefined =>
    statusLines({ ...healthyStatus, maps: [{ ...map, used: 95, flag }] }).find(({ subject }) => subject === 'Maps')?.details;
  expect(line('max-slots')).toEqual([
    'lb_slots with 95 of 100 entries (95.0 %): increase --max-slots, which takes effect when sluiced starts after `sluice uninstall`',
  ]);
  expect(line()).toEqual(['lb_slots with 95 of 100 entries (95.0 %)']);
});

test('messages that tenants can cause are shortened', () => {
  const refused = Array.from({ length: 500 }, (_, n) => `Service tenant/s${n}`);
  const line = statusLines({ ...healthyStatus, unserved: { refused, excluded: [] } }).find(({ subject }) => subject === 'Refused');
  expect(line?.details).toHaveLength(21);
  expect(line?.details.at(-1)).toBe('and 480 more');
});
