// SPDX-License-Identifier: Apache-2.0
// `npm run check`: types, lint, import directions, format, dead code, C, the API, shell scripts, workflows, documents and commit
// subjects. Prints one line per tool, and the whole output of a tool that fails. The exit code is 1 if a tool failed. It must
// never change a file: `npm run fmt` formats.
import { spawn } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { clang, clangFlags } from '../../datapath/build/clang.ts';
import { clangFormat, cSources, oxfmt, tsSources } from './sources.ts';

interface Outcome {
  readonly result: 'ok' | 'FAILED' | `skipped: ${string}`;
  readonly output: string;
}

type Tool = () => Promise<Outcome> | Outcome;

/** Runs a command to its end. A command that cannot be started counts as failed. */
function run(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', (error) => resolve({ result: 'FAILED', output: `${command} cannot be started: ${error.message}` }));
    child.on('close', (code) => resolve({ result: code === 0 ? 'ok' : 'FAILED', output: output.trimEnd() }));
  });
}

/** Runs a script of this folder. A script that cannot check anything here exits with 0 and prints "skipped: <reason>". */
async function script(name: string): Promise<Outcome> {
  const { result, output } = await run('node', `test/lint/${name}`);
  return { result: result === 'ok' && output.startsWith('skipped: ') ? (output as `skipped: ${string}`) : result, output };
}

/** Checks the length of C files. The linter limits the length of TypeScript files. */
function cSizes(): Outcome {
  const long = cSources().filter((file) => readFileSync(file, 'utf8').split('\n').length > 401);
  return { result: long.length === 0 ? 'ok' : 'FAILED', output: long.map((file) => `${file} has more than 400 lines`).join('\n') };
}

/**
 * Compiles each header by itself with the flags of the build. This fails if the header does not include what it needs. Two processes
 * compile half of the headers each, so that two CPUs are used.
 */
async function cHeaders(): Promise<Outcome> {
  const headers = globSync('datapath/lib/*.h').toSorted();
  const middle = Math.ceil(headers.length / 2);
  const halves = await Promise.all(
    // Most functions of a header are unused when the header is compiled by itself.
    [headers.slice(0, middle), headers.slice(middle)].map((half) =>
      run(clang, ...clangFlags, '-fsyntax-only', '-Wno-unused-function', '-x', 'c', ...half),
    ),
  );
  return {
    result: halves.every(({ result }) => result === 'ok') ? 'ok' : 'FAILED',
    output: halves
      .map(({ output }) => output)
      .join('\n')
      .trim(),
  };
}

/** Limits the output: clang-format prints several lines for every misplaced blank. */
function shortened(output: string): string {
  const lines = output.split('\n');
  return lines.length <= 100 ? output : [...lines.slice(0, 100), `... ${lines.length - 100} more lines`].join('\n');
}

const lintArgs = [
  '--config',
  'test/lint/oxlint.config.ts',
  '--type-aware',
  '--deny-warnings',
  '--report-unused-disable-directives',
  '--tsconfig',
  'daemon/tsconfig.json',
];
const lintIgnored = ['--ignore-pattern', '**/gen/**'];

const tools: Record<string, Tool> = {
  types: () => run('tsc', '-p', 'daemon/tsconfig.json'),
  lint: () => run('oxlint', ...lintArgs, ...lintIgnored, ...tsSources),
  directions: () => script('check-directions.ts'),
  format: () => run(oxfmt, '--check', ...tsSources),
  'dead code': () => run('knip', '--config', 'test/lint/knip.jsonc', '--no-progress'),
  // Finds code of daemon/, datapath/, deploy/ and proto/ that only tests use.
  'test code': () => run('knip', '--config', 'test/lint/knip.jsonc', '--production', '--no-progress'),
  'C format': () => run(clangFormat, '--dry-run', '-Werror', ...cSources()),
  'C sizes': cSizes,
  'C headers': cHeaders,
  proto: () => run('buf', 'lint', 'proto'),
  'API breaks': () => run('buf', 'breaking', 'proto', '--against', 'test/lint/proto-baseline.binpb'),
  shell: () => script('shell.ts'),
  workflows: () => script('actionlint.ts'),
  documents: () => script('documents.ts'),
  commits: () => script('commits.ts'),
};

const outcomes = await Promise.all(
  Object.entries(tools).map(async ([name, tool]) => {
    const start = performance.now();
    const { result, output } = await tool();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${name.padEnd(12)}${result}  ${seconds} s`);
    if (result === 'FAILED') console.log(shortened(output));
    return result;
  }),
);
process.exitCode = outcomes.includes('FAILED') ? 1 : 0;
