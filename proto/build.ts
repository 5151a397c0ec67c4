// SPDX-License-Identifier: Apache-2.0
// Generates proto/gen/ from the .proto files: the TypeScript types of the API, and the file descriptors that reflection serves. Called by
// .ci/setup; if nothing changed, it generates nothing. It must never leave an incomplete gen/: a new folder is generated beside gen/
// and then renamed.
import { spawnSync } from 'node:child_process';
import { globSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, 'gen');
const { resolve } = createRequire(import.meta.url);

// These options must match the options in load.ts. Otherwise the types differ from the values at run time.
const options = ['--grpcLib=@grpc/grpc-js', '--importFileExtension=.ts', '--longs=String', '--enums=String', '--defaults', '--oneofs'];

const loader = resolve('@grpc/proto-loader/package.json');
const compiler = resolve('@bufbuild/buf/package.json');
/** The services that the daemon serves: its own, health and reflection. The .proto files of each are in `subfolder` of `folder`. */
const served = [
  { folder: here, subfolder: 'sluice' },
  { folder: join(dirname(resolve('grpc-health-check/package.json')), 'proto'), subfolder: 'health' },
  { folder: join(dirname(resolve('@grpc/reflection/package.json')), 'build/proto'), subfolder: 'grpc' },
];

const modified = (path: string): number => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function run(...args: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: here });
  if (status !== 0) throw new Error(`${args[0] ?? ''} failed: ${stderr || stdout}`);
}

/** Generates gen/ if a .proto file, this file or a generator is newer. Returns true if it did. Idempotent. */
export function buildProto(): boolean {
  const sources = globSync('sluice/**/*.proto', { cwd: here }).toSorted();
  const newest = Math.max(...[...sources.map((file) => join(here, file)), fileURLToPath(import.meta.url), loader, compiler].map(modified));
  if (modified(join(out, 'sluice.ts')) > newest) return false;

  const made = join(here, `.gen-${process.pid}`);
  mkdirSync(made);
  try {
    const generator = join(dirname(loader), 'build', 'bin', 'proto-loader-gen-types.js');
    run(generator, ...options, '-I', here, '-O', made, '--', ...sources);
    const sets = served.map(({ folder, subfolder }, index) => {
      const file = join(made, `${index}.binpb`);
      run(
        join(dirname(compiler), 'bin', 'buf'),
        'build',
        folder,
        '--path',
        join(folder, subfolder),
        '--as-file-descriptor-set',
        '-o',
        file,
      );
      const bytes = readFileSync(file);
      rmSync(file);
      return bytes;
    });
    // Concatenated FileDescriptorSets decode as one set of all their files.
    writeFileSync(join(made, 'descriptors.binpb'), Buffer.concat(sets));
    rmSync(out, { recursive: true, force: true });
    renameSync(made, out);
  } finally {
    rmSync(made, { recursive: true, force: true });
  }
  return true;
}

if (import.meta.main && buildProto()) process.stdout.write('proto/gen: types and descriptors generated\n');
