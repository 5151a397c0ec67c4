// SPDX-License-Identifier: Apache-2.0
// Checks .github/workflows with actionlint. Builds actionlint once from the Go module that test/tools/actionlint pins, and
// keeps it in node_modules/.cache. Without Go, or without a way to download the module, it prints "skipped: <reason>".
// It must never change a file of the repository. Started by check.ts.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, readFileSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';

const module = 'test/tools/actionlint';
const pinned = ['go.mod', 'go.sum'].map((file) => readFileSync(join(module, file), 'utf8')).join('\n');
const hash = createHash('sha256').update(pinned).digest('hex').slice(0, 16);
const program = resolve('node_modules/.cache', `actionlint-${hash}`);

function go(...args: string[]) {
  return spawnSync('go', args, { cwd: module, encoding: 'utf8' });
}

/** Builds the program if it is missing. Returns the reason if it cannot be built, and undefined if it exists. */
function build(): string | undefined {
  if (existsSync(program)) return undefined;
  if (go('version').status !== 0) return 'no Go';
  if (go('mod', 'download').status !== 0) return 'the Go module of actionlint cannot be downloaded';
  // Built under a temporary name, so that a check that runs at the same time never finds an incomplete program.
  const partial = `${program}-${process.pid}`;
  const { status, stderr } = go('build', '-trimpath', '-o', partial, 'github.com/rhysd/actionlint/cmd/actionlint');
  if (status !== 0) throw new Error(`actionlint cannot be built:\n${stderr}`);
  renameSync(partial, program);
  return undefined;
}

const obstacle = build();
if (obstacle === undefined) {
  // The files are listed here, because actionlint finds files by itself only in a git repository.
  const files = globSync('.github/workflows/*.{yml,yaml}');
  process.exitCode = spawnSync(program, ['-no-color', ...files], { stdio: 'inherit' }).status ?? 1;
} else {
  console.log(`skipped: ${obstacle}`);
}
