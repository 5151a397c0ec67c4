// SPDX-License-Identifier: Apache-2.0
// The rule for commit subjects that `npm run check` enforces: accepted subjects, and the message for each rejected subject.
import { expect, test } from 'vitest';
import { subjectFault } from '../../lint/commits.ts';

test.for([
  { name: 'a room and an imperative', subject: 'datapath: include what each header needs', want: undefined },
  { name: 'a path', subject: 'test/lint: check commit subjects', want: undefined },
  { name: 'a hidden folder', subject: '.github: add a workflow', want: undefined },
  { name: 'several rooms', subject: 'reconcile, maps: keep a run until its grace period ends', want: undefined },
  { name: 'an imperative that ends in -ing', subject: 'cli: bring back the table', want: undefined },
  { name: '72 characters', subject: `daemon: ${'a'.repeat(64)}`, want: undefined },
  { name: '73 characters', subject: `daemon: ${'a'.repeat(65)}`, want: 'has 73 characters, at most 72 are allowed' },
  { name: 'no room', subject: 'Fix the table', want: 'does not begin with a room, such as "datapath: "' },
  { name: 'no blank after the colon', subject: 'cli:fix the table', want: 'does not begin with a room, such as "datapath: "' },
  { name: 'words before the colon', subject: 'Tests of cli: fix the table', want: 'does not begin with a room, such as "datapath: "' },
  { name: 'a past participle', subject: 'cli: fixed the table', want: 'is not imperative: "fixed"' },
  { name: 'a present participle', subject: 'cli: fixing the table', want: 'is not imperative: "fixing"' },
  { name: 'a full stop', subject: 'cli: fix the table.', want: 'ends with a full stop' },
])('the check of a commit subject is right for $name', ({ subject, want }) => {
  expect(subjectFault(subject)).toBe(want);
});
