// SPDX-License-Identifier: Apache-2.0
// What a run of the tests amounts to: counts, and whether it is good. Pure; test/run.ts feeds it. A skip is good only with
// the note "missing: <feature>" of a feature listed here; whatever did not finish, and every error outside a test, failed.

/** Kernel or host features that a test may lack, each with the reason; the tests skip with `skip('missing: <feature>')`. */
export const allowedMissing: Readonly<Record<string, string>> = {
  Go: 'the control plane of the cluster tests is built from its modules; nothing else is',
};

export interface TestRecord {
  /** "unit test/unit/table.test.ts > name" */
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
  /** What was given to skip(); of a failed test the first line of its first error. */
  readonly note?: string | undefined;
}

/** What test/support/runner/result-file.ts writes. */
export interface RunRecord {
  readonly tests: readonly TestRecord[];
  /** Files that could not be loaded, hooks that threw, workers that died. */
  readonly errors: readonly string[];
}

export interface Verdict {
  readonly isGood: boolean;
  /** "N passed, N failed, N skipped": the last line of `npm test`. */
  readonly summary: string;
  /** Why it is not good, a line each: a log of which only the end was kept still tells. */
  readonly complaints: readonly string[];
}

export interface Terms {
  readonly allowedMissing: Readonly<Record<string, string>>;
  /** Only tests of a certain name were asked for: the others are left out, not skipped. */
  readonly isByName: boolean;
}

/** The verdict on one run. */
export function verdictOn(run: RunRecord, terms: Terms): Verdict {
  const tests = terms.isByName ? run.tests.filter((test) => test.state !== 'skipped' || test.note !== undefined) : run.tests;
  const count = (state: TestRecord['state']): number => tests.filter((test) => test.state === state).length;
  const passed = count('passed');
  const failed = count('failed') + count('pending') + run.errors.length;
  const complaints = [
    ...tests.filter((test) => test.state === 'failed').map((test) => `failed: ${test.name} (${test.note ?? 'without an error'})`),
    ...tests.filter((test) => test.state === 'pending').map((test) => `did not finish: ${test.name}`),
    ...tests.filter((test) => test.state === 'skipped' && !isAllowed(test.note, terms)).map(unexpectedSkip),
    ...run.errors.map((error) => `outside any test: ${error}`),
    ...(passed === 0 && !tests.some((test) => test.state === 'skipped' && isAllowed(test.note, terms)) ? ['no test passed'] : []),
  ];
  return {
    isGood: failed === 0 && complaints.length === 0,
    summary: `${passed} passed, ${failed} failed, ${count('skipped')} skipped`,
    complaints: complaints.map(printable),
  };
}

/** One line that any tool can read: what .ci/run searches must stay text whatever a test compared. */
const printable = (line: string): string =>
  line.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);

function isAllowed(note: string | undefined, terms: Terms): boolean {
  const feature = /^missing: (.+)$/.exec(note ?? '')?.[1];
  return feature !== undefined && Object.hasOwn(terms.allowedMissing, feature);
}

const unexpectedSkip = (test: TestRecord): string => `unexpected skip: ${test.name} (${test.note ?? 'names no missing feature'})`;
