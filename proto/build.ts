// SPDX-License-Identifier: Apache-2.0
// Generates proto/gen/, the TypeScript types of the API, from the .proto files. Called by .ci/setup; if nothing changed, it
// generates nothing. It must never leave an incomplete gen/: a new folder is generated beside gen/ and then renamed.
import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, 'gen');

// These options must match the options in load.ts. Otherwise the types differ from the values at run time.
const options = ['--grpcLib=@grpc/grpc-js', '--importFileExtension=.ts', '--longs=String', '--enums=String', '--defaults', '--oneofs'];

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/** Generates the types if a .proto file, this file or the generator is newer than the types. Returns true if it did. Idempotent. */
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

if (import.meta.main && buildProto()) process.stdout.write('proto/gen: types generated\n');
