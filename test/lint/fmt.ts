// SPDX-License-Identifier: Apache-2.0
// `npm run fmt`: formats all TypeScript and C files in place. It must never touch generated files.
import { spawnSync } from 'node:child_process';
import { clangFormat, cSources, oxfmt, tsSources } from './sources.ts';

const commands: readonly [string, readonly string[]][] = [
  [oxfmt, tsSources],
  [clangFormat, ['-i', ...cSources()]],
];

for (const [command, args] of commands) {
  const run = spawnSync(command, args, { stdio: 'inherit' });
  if (run.error) throw run.error;
  if (run.status !== 0) process.exitCode = 1;
}
