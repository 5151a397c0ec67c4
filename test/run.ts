// SPDX-License-Identifier: Apache-2.0
// `npm test [-- PROJECT... [filters and flags of vitest]]`: runs the named vitest projects, or all except topologies and cluster, and prints
// the verdict. The last line is the summary. The exit code is 0 only if a test passed, no test failed, and every skipped test
// names an allowed missing feature. support/runner/verdict.ts decides this.
import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { canHaveTools } from './cluster/tools.ts';
import { allowedMissing, type RunRecord, type TestRecord, verdictOn } from './support/runner/verdict.ts';

const usual = ['unit', 'script', 'kernel', 'netns'];
const projects = [...usual, 'topologies', 'cluster'];
const needRoot = ['kernel', 'netns', 'topologies', 'cluster'];
/** The compile cache of `npm run sluiced`. */
const compileCache = join(import.meta.dirname, '../node_modules/.cache/sluice');

/** Runs vitest to its end. Returns its results, or one error if it wrote none. */
async function vitest(args: readonly string[]): Promise<RunRecord> {
  const folder = mkdtempSync(join(tmpdir(), 'sluice-test-'));
  const resultPath = join(folder, 'result.json');
  const child = spawn('vitest', ['run', '--config', 'test/vitest.config.ts', ...args], {
    stdio: 'inherit',
    // Daemons, commands and peers are started hundreds of times. With a compile cache they need half the CPU time.
    env: { NODE_COMPILE_CACHE: compileCache, ...process.env, TEST_RESULT_FILE: resultPath },
  });
  // On Ctrl-C the terminal sends the signal to vitest too. This process waits until vitest has ended, and reports its results.
  const onInterrupt = (): void => undefined;
  const onTerminate = (): void => void child.kill('SIGTERM');
  process.on('SIGINT', onInterrupt).on('SIGTERM', onTerminate);
  try {
    const ended = await new Promise<string>((resolve) => {
      child.on('error', (error) => resolve(error.message));
      child.on('close', (code, signal) => resolve(signal ?? `exit code ${code}`));
    });
    return readResult(resultPath, ended);
  } finally {
    process.off('SIGINT', onInterrupt).off('SIGTERM', onTerminate);
    rmSync(folder, { recursive: true, force: true });
  }
}

function readResult(path: string, ended: string): RunRecord {
  let record: RunRecord;
  try {
    record = JSON.parse(readFileSync(path, 'utf8')) as RunRecord;
  } catch {
    return { tests: [], errors: [`vitest wrote no results (${ended})`] };
  }
  const isExplained = record.errors.length > 0 || record.tests.some((test) => test.state === 'failed');
  return ended === 'exit code 0' || isExplained ? record : { ...record, errors: [`vitest ended with ${ended}`] };
}

/** One skipped test for each file of the projects that cannot run here. */
function leftOut(names: readonly string[], reason: string): TestRecord[] {
  const files = names.flatMap((name) => globSync(`test/${name}/**/*.test.ts`).map((file) => `${name} ${file}`));
  return files.map((name) => ({ name, state: 'skipped', note: reason }));
}

const args = process.argv.slice(2);
const firstOther = args.findIndex((arg) => !projects.includes(arg));
const named = firstOther === -1 ? args : args.slice(0, firstOther);
const rest = args.slice(named.length);

const wanted = named.length > 0 ? named : usual;
const isRoot = process.getuid?.() === 0;
const unable = isRoot ? [] : wanted.filter((name) => needRoot.includes(name));
const withoutGo = wanted.includes('cluster') && isRoot && !canHaveTools() ? ['cluster'] : [];
const able = wanted.filter((name) => !unable.includes(name) && !withoutGo.includes(name));
if (unable.length > 0) console.log(`The following test projects need root and do not run: ${unable.join(', ')}. Run: sudo npm test`);
if (withoutGo.length > 0) console.log('The test project cluster does not run: it needs Go to build a control plane.');

const ran = able.length > 0 ? await vitest([...able.map((name) => `--project=${name}`), ...rest]) : { tests: [], errors: [] };
const verdict = verdictOn(
  { tests: [...ran.tests, ...leftOut(unable, 'needs root'), ...leftOut(withoutGo, 'missing: Go')], errors: ran.errors },
  { allowedMissing, isByName: rest.some((arg) => /^(-t|--testNamePattern)(=|$)/.test(arg)) },
);
for (const complaint of verdict.complaints) console.log(complaint);
console.log(verdict.summary);
process.exitCode = verdict.isGood ? 0 : 1;
