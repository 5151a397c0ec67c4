// SPDX-License-Identifier: Apache-2.0
// The versions of this program, of libbpf and of the kernel, for --version, the build metric and the status.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { libbpfVersion } from '../kernel/object.ts';
import type { Versions } from '../model/versions.ts';

const root = join(import.meta.dirname, '../..');

/**
 * The commit of this program: SLUICE_COMMIT, which images set, or else the commit that the files in .git name. "" when both are
 * missing.
 */
function commit(): string {
  if (process.env['SLUICE_COMMIT'] !== undefined) return process.env['SLUICE_COMMIT'];
  try {
    const head = readFileSync(join(root, '.git/HEAD'), 'utf8').trim();
    if (!head.startsWith('ref: ')) return head.slice(0, 12);
    return readFileSync(join(root, '.git', head.slice(5)), 'utf8')
      .trim()
      .slice(0, 12);
  } catch {
    return '';
  }
}

export function versions(): Versions {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return { version, commit: commit(), libbpf: libbpfVersion(), kernel: release() };
}
