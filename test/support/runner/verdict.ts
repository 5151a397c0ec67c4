// SPDX-License-Identifier: Apache-2.0
// Counts the results of a test run and decides whether the run is good. Pure; test/run.ts calls it. A skipped test is allowed
// only if its note is "missing: <feature>" and the feature is listed here. A test that did not finish counts as failed, and so
// does every error outside a test. .ci/run searches the output for the prefixes of the complaints.

/** Kernel or host features that may be missing, each with the reason. A test skips with `skip('missing: <feature>')`. */
export const allowedMissing: Readonly<Record<string, string>> = {
  Go: 'only the control plane of the cluster tests is built with Go',
};

export interface TestRecord {
  /** "unit test/unit/table.test.ts > name" */
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'skipped' | 'pending';
  /** The argument of skip() for a skipped test; the first line of the first error for a failed test. */
  readonly note?: string | undefined;
}

/** The file that test/support/runner/result-file.ts writes. */
export interface RunRecord {
  readonly tests: readonly TestRecord[];
  /** Files that could not be loaded, hooks that threw, workers that ended early. */
  readonly errors: readonly string[];
}

export interface Verdict {
  readonly isGood: boolean;
  /** "N passed, N failed, N skipped": the last line of `npm test`. */
  readonly summary: string;
  /** One line for each reason why the run is not good. They are printed last, so that they are at the end of a log. */
  readonly complaints: readonly string[];
}

export interface Terms {
  readonly allowedMissing: Readonly<Record<string, string>>;
  /** The run was limited to test names that match a pattern. The other tests are not counted. */
  readonly isByName: boolean;
}

export function verdictOn(run: RunRecord, terms: Terms): Verdict {
  const tests = terms.isByName ? run.tests.filter((test) => test.state !== 'skipped' || test.note !== undefined) : run.tests;
  const count = (state: TestRecord['state']): number => tests.filter((test) => test.state === state).length;
  const passed = count('passed');
  const failed = count('failed') + count('pending') + run.errors.length;
  const complaints = [
    ...tests.filter((test) => test.state === 'failed').map((test) => `failed: ${test.name} (${test.note ?? 'no error was recorded'})`),
    ...tests.filter((test) => test.state === 'pending').map((test) => `did not finish: ${test.name}`),
    ...tests.filter((test) => test.state === 'skipped' && !isAllowed(test.note, terms)).map(unexpectedSkip),
    ...run.errors.map((error) => `outside any test: ${error}`),
    ...(passed === 0 && !tests.some((test) => test.state === 'skipped' && isAllowed(test.note, terms)) ? ['failed: no test passed'] : []),
  ];
  return {
    isGood: failed === 0 && complaints.length === 0,
    summary: `${passed} passed, ${failed} failed, ${count('skipped')} skipped`,
    complaints: complaints.map(printable),
  };
}

/** Replaces control characters. A message can contain the bytes that a test compared, and .ci/run searches the output as text. */
const printable = (line: string): string =>
  line.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);

function isAllowed(note: string | undefined, terms: Terms): boolean {
  const feature = /^missing: (.+)$/.exec(note ?? '')?.[1];
  return feature !== undefined && Object.hasOwn(terms.allowedMissing, feature);
}

const unexpectedSkip = (test: TestRecord): string => `unexpected skip: ${test.name} (${test.note ?? 'the skip names no missing feature'})`;
