// SPDX-License-Identifier: Apache-2.0
// Makes proto/gen/, the TypeScript types of the API, from the .proto files. Called by `npm run build` and the set-up, and
// quick when nothing changed. It must never leave a half-made gen/: the new tree is made beside it and renamed into place.
import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, 'gen');

// Must agree with the options in load.ts, or the types lie.
const options = ['--grpcLib=@grpc/grpc-js', '--importFileExtension=.ts', '--longs=String', '--enums=String', '--defaults', '--oneofs'];

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Makes the types when a .proto file, this file or the generator is newer than they are. Returns whether it had to. Idempotent. */
export function buildProto(): boolean {
  const loader = createRequire(import.meta.url).resolve('@grpc/proto-loader/package.json');
  const sources = globSync('sluice/**/*.proto', { cwd: here }).toSorted();
  const newest = Math.max(...[...sources.map((file) => join(here, file)), fileURLToPath(import.meta.url), loader].map(modified));
  if (modified(join(out, 'sluice.ts')) > newest) return false;

  const made = join(here, `.gen-${process.pid}`);
  mkdirSync(made);
  try {
    const generator = join(dirname(loader), 'build', 'bin', 'proto-loader-gen-types.js');
    const run = spawnSync(process.execPath, [generator, ...options, '-I', here, '-O', made, '--', ...sources], {
      encoding: 'utf8',
      cwd: here,
    });
    if (run.status !== 0) throw new Error(`proto-loader-gen-types failed: ${run.stderr || run.stdout}`);
    rmSync(out, { recursive: true, force: true });
    renameSync(made, out);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  return true;
}

if (import.meta.main && buildProto()) process.stdout.write('proto/gen: types made\n');
