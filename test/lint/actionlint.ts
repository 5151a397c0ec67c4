// SPDX-License-Identifier: Apache-2.0
// Checks .github/workflows with actionlint, which test/tools/actionlint pins. Without Go, or without a way to download the module, it
// prints "skipped: <reason>". It must never change a file of the repository. Started by check.ts.
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { buildTool } from '../tools/build.ts';

const built = buildTool('actionlint', 'github.com/rhysd/actionlint/cmd/actionlint');
if ('program' in built) {
  // The files are listed here, because actionlint finds files by itself only in a git repository.
  const files = globSync('.github/workflows/*.{yml,yaml}');
  process.exitCode = spawnSync(built.program, ['-no-color', ...files], { stdio: 'inherit' }).status ?? 1;
} else {
  console.log(`skipped: ${built.obstacle}`);
}
