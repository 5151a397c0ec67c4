// SPDX-License-Identifier: Apache-2.0
// A vitest reporter that writes the results of a run to a file, which test/run.ts reads. It must not judge the results:
// verdict.ts does.
import { writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestModule } from 'vitest/node';
import type { RunRecord } from './verdict.ts';

/** Writes one RunRecord as JSON when the run has ended. */
export class ResultFile implements Reporter {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const record: RunRecord = {
      tests: modules.flatMap((module) =>
        [...module.children.allTests()].map((test) => {
          const result = test.result();
          return {
            name: `${module.project.name} ${module.relativeModuleId} > ${test.fullName}`,
            state: result.state,
            note: result.state === 'skipped' ? result.note : result.errors?.[0]?.message.split('\n', 1)[0],
          };
        }),
      ),
      errors: [...modules.flatMap(errorsOf), ...unhandled.map((error) => error.message)],
    };
    writeFileSync(this.#path, JSON.stringify(record));
  }
}

/** Errors of a file and of the hooks of its suites. A file that never ran is an error too. */
function errorsOf(module: TestModule): string[] {
  const place = `${module.project.name} ${module.relativeModuleId}`;
  const state = module.state();
  const errors = [module, ...module.children.allSuites()].flatMap((part) => part.errors().map((error) => `${place}: ${error.message}`));
  return state === 'queued' || state === 'pending' ? [`${place}: did not finish`, ...errors] : errors;
}
