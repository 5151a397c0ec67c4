// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// Builds datapath/gen/*.bpf.o (clang) and daemon/maps/gen/layouts.ts (codecs from the BTF of layout.bpf.o). Neither is
// committed. Incremental: a target that is newer than its sources is kept. Prints one line per step that it runs.
// Called by .ci/setup; the daemon never runs it.
import { execFileSync } from 'node:child_process';
import { existsSync, globSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { clang, clangFlags } from './clang.ts';
import { codecSource } from './codecs.ts';

const root = join(import.meta.dirname, '../..');
const datapath = join(root, 'datapath');
const objects = join(datapath, 'gen');

function isStale(target: string, sources: readonly string[]): boolean {
  if (!existsSync(target)) return true;
  const made = statSync(target).mtimeMs;
  return sources.some((source) => statSync(source).mtimeMs > made);
}

/** Runs a tool and returns its output. If the tool fails, its own message is the error and the build ends. */
function run(command: string, args: readonly string[]): string {
  try {
    return execFileSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'inherit'] });
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    console.error(isMissing ? `${command} is not installed: run sh .ci/setup` : `${command} failed: see above`);
    return process.exit(1);
  }
}

/** Writes a file beside the target, then renames it to the target. So an interrupted build leaves the old target. */
function replace(target: string, write: (partial: string) => void): void {
  const partial = `${target}.${process.pid}.partial`;
  write(partial);
  renameSync(partial, target);
}

function buildObjects(): void {
  mkdirSync(objects, { recursive: true });
  const shared = globSync(['lib/*.h', 'build/*.ts'], { cwd: datapath }).map((file) => join(datapath, file));
  for (const source of globSync('*.bpf.c', { cwd: datapath }).toSorted()) {
    const target = join(objects, source.replace(/\.c$/, '.o'));
    if (!isStale(target, [join(datapath, source), ...shared])) continue;
    console.error(`clang datapath/${source}`);
    replace(target, (partial) => run(clang, [...clangFlags, '-c', `datapath/${source}`, '-o', partial]));
  }
}

function buildCodecs(): void {
  const layout = join(objects, 'layout.bpf.o');
  const target = join(root, 'daemon/maps/gen/layouts.ts');
  if (!isStale(target, [layout, join(datapath, 'build/codecs.ts')])) return;
  console.error('codecs daemon/maps/gen/layouts.ts');
  mkdirSync(join(root, 'daemon/maps/gen'), { recursive: true });
  const source = codecSource(run('bpftool', ['-j', 'btf', 'dump', 'file', layout]));
  replace(target, (partial) => writeFileSync(partial, source));
}

buildObjects();
buildCodecs();
