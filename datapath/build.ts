// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Builds what is not committed: datapath/gen/*.bpf.o (clang), daemon/maps/gen/layouts.ts (codecs from BTF), proto/gen
// (types of the API). Incremental: a target newer than its sources is left alone. Prints a line per step that it runs.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildProto } from '../proto/build.ts';
import { codecSource } from './codecs.ts';

const root = join(import.meta.dirname, '..');
const datapath = join(root, 'datapath');
const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as 'x64' | 'arm64'];
// BPF_CORE-free C: -mcpu=v3 has 32-bit and atomic instructions (Linux 5.12).
const clangFlags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Wshadow', '-Werror', `-I/usr/include/${multiarch}`];

const files = (folder: string, ending: string): string[] =>
  readdirSync(join(datapath, folder))
    .filter((name) => name.endsWith(ending))
    .map((name) => join(datapath, folder, name));

function isStale(target: string, sources: readonly string[]): boolean {
  if (!existsSync(target)) return true;
  const made = statSync(target).mtimeMs;
  return sources.some((source) => statSync(source).mtimeMs > made);
}

/** Runs a compiler; on failure its own message is the error, not a stack trace. */
function run(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { cwd: datapath, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] });
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    console.error(missing ? `${command} is not installed: run sh .ci/setup` : `${command} failed: see above`);
    return process.exit(1);
  }
}

/** Whole or not at all: a build cut short leaves the old target. */
function replace(target: string, write: (partial: string) => void): void {
  const partial = `${target}.${process.pid}.partial`;
  write(partial);
  renameSync(partial, target);
}

function buildObjects(): void {
  const headers = files('lib', '.h');
  mkdirSync(join(datapath, 'gen'), { recursive: true });
  for (const source of files('.', '.bpf.c')) {
    const target = source.replace(datapath, join(datapath, 'gen')).replace(/\.c$/, '.o');
    if (!isStale(target, [source, ...headers, join(datapath, 'build.ts')])) continue;
    console.error(`clang ${source.replace(`${root}/`, '')}`);
    replace(target, (partial) => run('clang-19', [...clangFlags, '-c', source, '-o', partial]));
  }
}

function buildCodecs(): void {
  const object = join(datapath, 'gen/layout.bpf.o');
  const target = join(root, 'daemon/maps/gen/layouts.ts');
  if (!isStale(target, [object, join(datapath, 'codecs.ts')])) return;
  console.error('codecs daemon/maps/gen/layouts.ts');
  mkdirSync(join(root, 'daemon/maps/gen'), { recursive: true });
  const source = codecSource(run('bpftool', ['-j', 'btf', 'dump', 'file', object]));
  replace(target, (partial) => writeFileSync(partial, source));
}

buildProto();
buildObjects();
buildCodecs();
