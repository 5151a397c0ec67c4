// SPDX-License-Identifier: Apache-2.0
// The versions of this program and of what it runs on, for --version, the build metric and the status.
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { libbpfVersion } from '../kernel/object.ts';
import type { Versions } from '../model/versions.ts';

const root = join(import.meta.dirname, '../..');

/** The checked-out commit, read from .git without git; an image has it in SLUICE_COMMIT. "" when both are missing. */
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
