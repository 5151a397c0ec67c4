// SPDX-License-Identifier: Apache-2.0
// The disk as the scan sees it: the names in the directory and the text of one file, each in one blocking call (local
// configuration; a call costs microseconds, a promise would cost more than the read). Keeps no state.
import { closeSync, constants, fstatSync, lstatSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TextDecoder } from 'node:util';

export type Reading =
  | { readonly status: 'text'; readonly text: string }
  /** It is there, and that is all we know. */
  | { readonly status: 'unreadable'; readonly reason: string }
  | { readonly status: 'gone' };

export interface Listing {
  /** Sorted by code unit, which no locale changes. */
  readonly names: readonly string[];
  /** A link's target may change without an event that names the link. */
  readonly hasLinks: boolean;
}

/** A name that the source reads: *.yaml, *.yml, *.json, not hidden. */
export const isSourceName = (name: string): boolean => /^[^.].*\.(ya?ml|json)$/.test(name);

/** Throws what readdir throws. */
export function listDirectory(directory: string): Listing {
  const entries = readdirSync(directory, { withFileTypes: true }).filter(({ name }) => isSourceName(name));
  return { names: entries.map(({ name }) => name).toSorted(), hasLinks: entries.some((entry) => entry.isSymbolicLink()) };
}

export function isLink(directory: string, name: string): boolean {
  try {
    return lstatSync(join(directory, name)).isSymbolicLink();
  } catch {
    return false;
  }
}

/** Never throws. */
export function readSourceFile(directory: string, name: string): Reading {
  const path = join(directory, name);
  try {
    return { status: 'text', text: readRegularFile(path) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') return { status: 'unreadable', reason: message };
    return isLink(directory, name) ? { status: 'unreadable', reason: 'the symbolic link leads nowhere' } : { status: 'gone' };
  }
}

function readRegularFile(path: string): string {
  // Without O_NONBLOCK a named pipe would hold the daemon until somebody writes to it.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error(stat.isDirectory() ? 'EISDIR: it is a directory' : 'it is not a regular file');
    // Fatal: half a character at the end of a file that is being written is no text. A byte order mark is removed.
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(fd));
  } finally {
    closeSync(fd);
  }
}
