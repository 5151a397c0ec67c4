// SPDX-License-Identifier: Apache-2.0
// Builds a program from a Go module of this folder, which pins its version, and keeps it in node_modules/.cache. It must never change a
// file of the repository. Used by the checks and by the cluster tests.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';

const cache = join(import.meta.dirname, '../../node_modules/.cache');

/** The path of a program, or the reason why it is not available here. */
export type Built = { readonly program: string } | { readonly obstacle: string };

/** `name` is the folder of the module. Throws when the module cannot be compiled. */
export function buildTool(name: string, packagePath: string): Built {
  const module = join(import.meta.dirname, name);
  const go = (...args: string[]) => spawnSync('go', args, { cwd: module, encoding: 'utf8' });
  const pinned = ['go.mod', 'go.sum'].map((file) => readFileSync(join(module, file), 'utf8')).join('\n');
  const hash = createHash('sha256').update(pinned).digest('hex').slice(0, 16);
  const program = join(cache, `${name}-${hash}`);
  if (existsSync(program)) return { program };
  if (go('version').status !== 0) return { obstacle: 'no Go' };
  if (go('mod', 'download').status !== 0) return { obstacle: `the Go module of ${name} cannot be downloaded` };
  // Built under a temporary name, so that another process never finds an incomplete program.
  const partial = `${program}-${process.pid}`;
  const { status, stderr } = go('build', '-trimpath', '-o', partial, packagePath);
  if (status !== 0) throw new Error(`${name} cannot be built:\n${stderr}`);
  renameSync(partial, program);
  return { program };
}
