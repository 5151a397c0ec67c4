// SPDX-License-Identifier: Apache-2.0
// Each fact in the status of the agent has one severity. All outputs show this severity.
import { expect, test } from 'vitest';
import { statusLines } from '../../../daemon/status/severity.ts';
import type { AgentStatus, MapStatus, SourceStatus } from '../../../daemon/status/view.ts';
import { status as healthyStatus } from '../api/fixture.ts';

const severityOf = (subject: string, change: Partial<AgentStatus>): string | undefined =>
  statusLines({ ...healthyStatus, ...change }).find((line) => line.subject === subject)?.severity;

const source: SourceStatus = { name: 'files /etc', isInitialized: true, isComplete: true, problems: [] };
const map: MapStatus = { name: 'lb_slots', type: 'array', capacity: 100, used: 10 };
const problem = { file: 'web.yaml', line: 7, kind: 'Service', object: 'default/web', field: '', message: 'is invalid' };
const noRepairs = { total: 0, last: [], problems: [] };

test('every status line of a healthy agent has severity Ok', () => {
  expect(statusLines(healthyStatus).map(({ subject, severity }) => `${subject} ${severity}`)).toEqual(
    ['Sluice', 'Ready', 'Source', 'Reconcile', 'Conflicts', 'Host', 'Programs', 'Repairs', 'Maps'].map((subject) => `${subject} Ok`),
  );
});

test.for<{ subject: string; change: Partial<AgentStatus>; want: string }>([
  { subject: 'Ready', change: { ready: false, reasons: ['the first reconcile is not finished'] }, want: 'NotReady' },
  { subject: 'Source', change: { sources: [{ ...source, isInitialized: false }] }, want: 'NotReady' },
  { subject: 'Source', change: { sources: [{ ...source, isComplete: false }] }, want: 'Degraded' },
  { subject: 'Source', change: { sources: [{ ...source, problems: [problem] }] }, want: 'Degraded' },
  { subject: 'Source', change: { sources: [source] }, want: 'Ok' },
  { subject: 'Reconcile', change: { reconcile: { done: 0, pending: 3, error: 0, errors: [] } }, want: 'Ok' },
  { subject: 'Reconcile', change: { reconcile: { done: 0, pending: 0, error: 1, errors: [] } }, want: 'Degraded' },
  { subject: 'Conflicts', change: { conflicts: [{ frontend: 'f', owner: 'a', contenders: ['b'] }] }, want: 'Warning' },
  { subject: 'Host', change: { hostProblems: ['net.ipv4.ip_forward is 0'] }, want: 'Degraded' },
  { subject: 'Programs', change: { attachments: [] }, want: 'Warning' },
  { subject: 'Repairs', change: { repairs: { ...noRepairs, total: 1 } }, want: 'Warning' },
  { subject: 'Repairs', change: { repairs: { ...noRepairs, problems: ['map ct4 could not be repaired'] } }, want: 'Degraded' },
  { subject: 'Repairs', change: { repairs: noRepairs }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map] }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map, { ...map, used: 89 }] }, want: 'Ok' },
  { subject: 'Maps', change: { maps: [map, { ...map, used: 90 }] }, want: 'Warning' },
  { subject: 'Maps', change: { maps: [{ ...map, used: undefined }] }, want: 'Ok' },
])('$subject is $want', ({ subject, change, want }) => {
  expect(severityOf(subject, change)).toBe(want);
});
