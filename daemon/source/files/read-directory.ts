// SPDX-License-Identifier: Apache-2.0
// Reads the names in the directory and the text of one file. Each step blocks: the files are local configuration, a step takes
// microseconds, and a promise would cost more than the read. A large file takes many steps. Keeps no state.
import { type Dirent, lstatSync, opendirSync, readlinkSync, realpathSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { readTextInSteps } from '../../base/bounded-read.ts';
import type { Steps } from '../../base/slices.ts';
import { MAX_FILE_BYTES, MAX_NAMES } from './limits.ts';
import { ReasonError } from '../../base/errors.ts';
import { systemReason } from '../../base/reasons.ts';

export type ReadResult =
  | {
      readonly status: 'text';
      readonly text: string;
      /**
       * True if a link leads to a file outside the directory that not everyone may read. Messages must not quote its content: whoever can
       * create a link in the directory, and read the status, could otherwise read every file that this process can read.
       */
      readonly isPrivate: boolean;
    }
  /** The state of a file that exists, but whose content is unknown. */
  | { readonly status: 'unreadable'; readonly reason: string }
  | { readonly status: 'missing' };

export interface Listing {
  /** Sorted by code unit, which does not depend on the locale. */
  readonly names: readonly string[];
  /** True if some names are symbolic links. The target of a link may change without an event that names the link. */
  readonly hasLinks: boolean;
}

/** Whether the source reads a file with this name: *.yaml, *.yml or *.json, and not hidden. */
export const isSourceName = (name: string): boolean => /^[^.].*\.(ya?ml|json)$/.test(name);

/** Throws the errors of readdir, and an error for a directory with more than MAX_NAMES names. */
export function listDirectory(directory: string): Listing {
  const entries = entriesOf(directory).filter(({ name }) => isSourceName(name));
  return { names: entries.map(({ name }) => name).toSorted(), hasLinks: entries.some((entry) => entry.isSymbolicLink()) };
}

function entriesOf(directory: string): Dirent[] {
  const entries: Dirent[] = [];
  const open = opendirSync(directory, { bufferSize: 1024 });
  try {
    for (let entry = open.readSync(); entry !== null; entry = open.readSync()) {
      if (entries.length === MAX_NAMES) throw new ReasonError(`it contains more than ${MAX_NAMES} files`);
      entries.push(entry);
    }
  } finally {
    open.closeSync();
  }
  return entries;
}

export function isLink(directory: string, name: string): boolean {
  try {
    return lstatSync(join(directory, name)).isSymbolicLink();
  } catch {
    return false;
  }
}

/**
 * Identifies the version of a file: another value means that the file, or the target of the link, was changed or replaced. "" for a file
 * that does not exist or cannot be examined.
 */
export function changeStamp(directory: string, name: string): string {
  try {
    const { dev, ino, ctimeNs, size } = statSync(join(directory, name), { bigint: true });
    return `${dev}:${ino}:${ctimeNs}:${size}`;
  } catch {
    return '';
  }
}

/** The permission bit of the mode with which everyone may read a file. */
const READABLE_BY_OTHERS = 0o004;

/** Whether the open file is in the directory or below it. Asks for the open file, since a link may have another target by now. */
const isInside = (directory: string, fd: number): boolean => readlinkSync(`/proc/self/fd/${fd}`).startsWith(`${realpathSync(directory)}/`);

/** `previous` is the result of the last read. Never throws. */
export function* readSourceFile(directory: string, name: string, previous?: ReadResult): Steps<ReadResult> {
  const path = join(directory, name);
  const known = previous?.status === 'text' ? previous.text : undefined;
  try {
    let isPrivate = false;
    const onOpen = (fd: number, { mode }: Stats): void => {
      isPrivate = (mode & READABLE_BY_OTHERS) === 0 && !isInside(directory, fd);
    };
    const text = yield* readTextInSteps(path, { maxBytes: MAX_FILE_BYTES, known, onOpen });
    return { status: 'text', text, isPrivate };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ERR_ENCODING_INVALID_ENCODED_DATA') return { status: 'unreadable', reason: 'the file is not UTF-8 text' };
    if (code !== 'ENOENT') return { status: 'unreadable', reason: systemReason(error) };
    return isLink(directory, name)
      ? { status: 'unreadable', reason: 'the target of the symbolic link does not exist' }
      : { status: 'missing' };
  }
}
