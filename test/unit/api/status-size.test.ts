// SPDX-License-Identifier: Apache-2.0
// The status fits into a response whatever names and problems the objects have: each list is limited in bytes, and states how many elements
// it leaves out.
import { expect, test } from 'vitest';
import { maxResponseBytes } from '../../../daemon/api/limits.ts';
import { statusMessage } from '../../../daemon/api/messages.ts';
import { servedState } from '../../../daemon/cli/served-state.ts';
import type { AgentStatus, Finding, FindingKind } from '../../../daemon/status/view.ts';
import { loadSluice } from '../../../proto/load.ts';
import type { StatusResponse__Output } from '../../../proto/gen/sluice/v1/StatusResponse.ts';
import { status } from './fixture.ts';

const { responseSerialize, responseDeserialize } = loadSluice().Sluice.service.Status;

/** The message as a client reads it, and its size in bytes. */
function readBack(change: Partial<AgentStatus>): { message: StatusResponse__Output; bytes: number } {
  const buffer = responseSerialize(statusMessage({ ...status, ...change }));
  return { message: responseDeserialize(buffer), bytes: buffer.length };
}

const many = <T>(count: number, make: (n: number) => T): T[] => Array.from({ length: count }, (_, n) => make(n));

/** Texts of characters that need three bytes, and of characters that need an escape in JSON. */
const texts = { wide: '語'.repeat(1200), escaped: '"\\\u{1}'.repeat(400) };

/** A status in which each list has thousands of elements with this text. */
function hugeStatus(text: string): Partial<AgentStatus> {
  const messages = (count: number): string[] => many(count, (n) => `${n} ${text}`);
  const finding: Finding = { summary: text, problems: messages(3000) };
  return {
    ready: false,
    reasons: messages(3000),
    sources: [
      {
        ...{ name: 'files /etc/sluice', isInitialized: false, isComplete: false, omissions: text },
        problems: many(1001, (line) => ({ file: text, line, kind: text, object: text, field: text, message: text })),
      },
    ],
    reconcile: { done: 0, pending: 0, error: 9999, errors: many(40, (retries) => ({ key: text, message: text, retries })) },
    attachments: many(30_000, (n) => ({ hook: 'ingress', target: `device${n}`, kind: 'tcx', program: 'tc_pod_in' })),
    hostProblems: messages(3000),
    repairs: { total: 9, last: many(20, (at) => ({ sentence: text, at })), problems: messages(3000) },
    conflicts: many(1000, (n) => ({ frontend: `10.0.0.1:${n}/TCP`, owner: text, contenders: many(10, () => text), more: 7 })),
    conflictCount: 5000,
    addressSets: ['node', 'pod', 'serviceCIDR'].map((name) => ({ name, cidrs: many(100_000, (n) => `2001:db8:${n.toString(16)}::/64`) })),
    settings: many(8, (n) => ({ name: `setting-${n}`, value: '10.0.0.0/8,'.repeat(11_000) })),
    findings: Object.fromEntries(Object.keys(status.findings).map((kind) => [kind, finding])) as Record<FindingKind, Finding>,
    unserved: { refused: messages(3000), excluded: messages(3000), limited: messages(3000) },
    log: { droppedLines: 1, reason: text },
  };
}

test.for(Object.entries(texts))('a status in which every list is very long can be read, with %s texts', ([, text]) => {
  const { message, bytes } = readBack(hugeStatus(text));
  expect(bytes).toBeLessThan(maxResponseBytes);
  const [source] = message.sources;
  expect(source?.problems.length).toBeGreaterThan(10);
  expect((source?.problems.length ?? 0) + (source?.moreProblems ?? 0)).toBe(1001);
  expect(message.conflicts.length + message.moreConflicts).toBe(5000);
  expect(message.conflicts[0]).toMatchObject({ moreContenders: 7 });
  expect(message.attachments.length + message.moreAttachments).toBe(30_000);
  for (const { cidrs, moreCidrs } of message.addressSets) expect([cidrs.length > 1000, cidrs.length + moreCidrs]).toEqual([true, 100_000]);
  for (const list of [message.notReadyReasons, message.hostProblems, message.repairs?.problems ?? []]) {
    expect(list.length).toBeGreaterThan(10);
    expect(list.at(-1)).toBe(`and ${3000 - (list.length - 1)} more`);
  }
  for (const { subject, details } of message.lines.filter((line) => line.details.length > 20))
    expect([subject, details.at(-1)]).toEqual([subject, expect.stringMatching(/^and \d+ more$/)]);
});

test('a status with lists of ordinary length is complete', () => {
  const { message } = readBack({
    conflicts: many(500, (n) => ({
      frontend: `10.0.0.1:${n}/TCP`,
      owner: 'shop/web:http/TCP/IPv4',
      contenders: ['shop/late:http/TCP/IPv4'],
    })),
    attachments: many(1000, (n) => ({ hook: 'ingress', target: `veth${n}`, kind: 'tcx', program: 'tc_pod_in' })),
    addressSets: [{ name: 'node', cidrs: many(2000, (n) => `2001:db8::${n.toString(16)}/128`) }],
  });
  expect([message.moreConflicts, message.moreAttachments, message.addressSets[0]?.moreCidrs]).toEqual([0, 0, 0]);
  expect([message.conflicts.length, message.attachments.length, message.addressSets[0]?.cidrs.length]).toEqual([500, 1000, 2000]);
});

test('a plan does not take a list that is not complete for the served state', () => {
  expect(servedState(readBack({}).message, [])).toMatchObject({ addressSets: ['pod 10.244.1.0/24'], devices: expect.any(Map) as unknown });
  expect(servedState(readBack(hugeStatus('')).message, [])).toMatchObject({ addressSets: undefined, devices: undefined });
});
