// SPDX-License-Identifier: Apache-2.0
// verdictOn(): the summary line of a test run, its complaints, and the skipped tests that are allowed.
import { describe, expect, test } from 'vitest';
import { type RunRecord, type TestRecord, verdictOn } from '../../support/runner/verdict.ts';

const passed: TestRecord = { name: 'a', state: 'passed' };
const skipped = (note?: string): TestRecord => ({ name: 'b', state: 'skipped', note });

describe('verdictOn', () => {
  test.for<{ name: string; run: RunRecord; isByName?: boolean; summary: string; isGood: boolean; complaint?: string }>([
    { name: 'all passed', run: { tests: [passed, passed], errors: [] }, summary: '2 passed, 0 failed, 0 skipped', isGood: true },
    {
      name: 'a failed test',
      run: { tests: [passed, { name: 'c', state: 'failed', note: 'expected "a\0b" to be "\u001B[1mc"' }], errors: [] },
      summary: '1 passed, 1 failed, 0 skipped',
      isGood: false,
      complaint: String.raw`failed: c (expected "a\x00b" to be "\x1b[1mc")`,
    },
    {
      name: 'no test at all',
      run: { tests: [], errors: [] },
      summary: '0 passed, 0 failed, 0 skipped',
      isGood: false,
      complaint: 'failed: no test passed',
    },
    {
      name: 'a worker that ended early',
      run: { tests: [passed, { name: 'c', state: 'pending' }], errors: [] },
      summary: '1 passed, 1 failed, 0 skipped',
      isGood: false,
      complaint: 'did not finish: c',
    },
    {
      name: 'an error outside any test',
      run: { tests: [passed], errors: ['boom'] },
      summary: '1 passed, 1 failed, 0 skipped',
      isGood: false,
      complaint: 'outside any test: boom',
    },
    {
      name: 'a skip that names an allowed feature',
      run: { tests: [passed, skipped('missing: tcx')], errors: [] },
      summary: '1 passed, 0 failed, 1 skipped',
      isGood: true,
    },
    {
      name: 'only skips that name an allowed feature',
      run: { tests: [skipped('missing: tcx')], errors: [] },
      summary: '0 passed, 0 failed, 1 skipped',
      isGood: true,
    },
    {
      name: 'a skip that names another feature',
      run: { tests: [passed, skipped('missing: other')], errors: [] },
      summary: '1 passed, 0 failed, 1 skipped',
      isGood: false,
      complaint: 'unexpected skip: b (missing: other)',
    },
    {
      name: 'a skip that names no feature',
      run: { tests: [passed, skipped()], errors: [] },
      summary: '1 passed, 0 failed, 1 skipped',
      isGood: false,
      complaint: 'unexpected skip: b (the skip names no missing feature)',
    },
    {
      name: 'tests excluded by a name pattern',
      run: { tests: [passed, skipped()], errors: [] },
      isByName: true,
      summary: '1 passed, 0 failed, 0 skipped',
      isGood: true,
    },
  ])('the verdict on a run is correct: $name', ({ run, isByName = false, summary, isGood, complaint }) => {
    const verdict = verdictOn(run, { allowedMissing: { tcx: 'Linux 6.6' }, isByName });
    expect(verdict).toEqual({ isGood, summary, complaints: complaint === undefined ? [] : [complaint] });
  });
});
