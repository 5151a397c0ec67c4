// SPDX-License-Identifier: Apache-2.0
// `npm run check`: types, lint, import directions, format, dead code, C and proto. One line per tool, the output of a tool
// that fails in full, exit code 1 if any did. It changes no file: `npm run fmt` does.
import { spawn } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { clangFormat, cSources, oxfmt, tsSources } from './sources.ts';

interface Outcome {
  readonly isGood: boolean;
  readonly output: string;
}

type Tool = () => Promise<Outcome> | Outcome;

/** Runs a command to its end; a command that cannot be started is a failure that says so. */
function run(command: string, ...args: string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.on('error', (error) => resolve({ isGood: false, output: `${command}: ${error.message}` }));
    child.on('close', (code) => resolve({ isGood: code === 0, output: output.trimEnd() }));
  });
}

/** The linter counts the lines of TypeScript; this counts those of C. */
function cSizes(): Outcome {
  const long = cSources().filter((file) => readFileSync(file, 'utf8').split('\n').length > 401);
  return { isGood: long.length === 0, output: long.map((file) => `${file}: more than 400 lines`).join('\n') };
}

/** clang-format tells every misplaced blank. */
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
  directions: () => run('node', 'test/lint/check-directions.ts'),
  format: () => run(oxfmt, '--check', ...tsSources),
  'dead code': () => run('knip', '--config', 'test/lint/knip.jsonc', '--no-progress'),
};
if (cSources().length > 0) {
  tools['C format'] = () => run(clangFormat, '--dry-run', '-Werror', ...cSources());
  tools['C sizes'] = cSizes;
}
if (globSync('proto/**/*.proto').length > 0) tools['proto'] = () => run('buf', 'lint', 'proto');

const outcomes = await Promise.all(
  Object.entries(tools).map(async ([name, tool]) => {
    const start = performance.now();
    const outcome = await tool();
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(`${name.padEnd(12)}${outcome.isGood ? 'ok' : 'FAILED'}  ${seconds} s`);
    if (!outcome.isGood) console.log(shortened(outcome.output));
    return outcome.isGood;
  }),
);
process.exitCode = outcomes.every(Boolean) ? 0 : 1;
