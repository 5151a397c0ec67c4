// SPDX-License-Identifier: Apache-2.0
// Reads a file that people or other programs write, up to a limit. It must never block on a named pipe or a device, and never read more
// than the limit, even if the file grows while it is read. No message contains the path or the content.
import { closeSync, constants, fstatSync, openSync, readSync, statSync, type Stats } from 'node:fs';
import { ReasonError } from './errors.ts';

/** Formats a number of bytes in MiB or KiB: "4 MiB". */
export const sizeText = (bytes: number): string => (bytes % 2 ** 20 === 0 ? `${bytes / 2 ** 20} MiB` : `${bytes / 2 ** 10} KiB`);

export interface ReadLimits {
  readonly maxBytes: number;
  /**
   * Whether to read also named pipes and terminals, and to wait for their data. Used for files that a person names, as in `--node
   * <(command)`.
   */
  readonly waitsForPipe?: boolean;
  /** Called with the descriptor and the state of the open file, before it is read. */
  readonly onOpen?: (fd: number, stat: Stats) => void;
}

const CHUNK_BYTES = 65_536;

/** Throws ReasonError, or the error of the system call. */
export function readBounded(path: string, { maxBytes, waitsForPipe = false, onOpen }: ReadLimits): Buffer {
  // Opening a named pipe wakes up its writer, and opening a device may start something, so the kind of the file is checked first.
  check(statSync(path), waitsForPipe);
  // Without O_NONBLOCK, opening a named pipe would block until a writer opens it.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOCTTY | (waitsForPipe ? 0 : constants.O_NONBLOCK));
  try {
    const stat = fstatSync(fd);
    check(stat, waitsForPipe);
    if (stat.size > maxBytes) throw tooLarge(maxBytes);
    onOpen?.(fd, stat);
    return readUpTo(fd, maxBytes, stat.size);
  } finally {
    closeSync(fd);
  }
}

/** readBounded() as text. Bytes that are not UTF-8 become replacement characters. */
export const readBoundedText = (path: string, limits: ReadLimits): string => readBounded(path, limits).toString('utf8');

function check(stat: Stats, waitsForPipe: boolean): void {
  const isPipe = stat.isFIFO() || stat.isCharacterDevice();
  if (!stat.isFile() && !(waitsForPipe && isPipe)) throw new ReasonError(`the path is ${kindOf(stat)}, not a regular file`);
}

function readUpTo(fd: number, maxBytes: number, expected: number): Buffer {
  const pieces: Buffer[] = [];
  let total = 0;
  // The loop reads until the end of the file, because the size in the inode is 0 for files of procfs and outdated for a file that grows.
  for (let size = expected + 1; ; size = CHUNK_BYTES) {
    const piece = Buffer.allocUnsafe(Math.min(size, maxBytes + 1 - total));
    const count = readSync(fd, piece, 0, piece.length, null);
    if (count === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, count));
    total += count;
    if (total > maxBytes) throw tooLarge(maxBytes);
  }
}

const tooLarge = (maxBytes: number): ReasonError => new ReasonError(`the file is larger than ${sizeText(maxBytes)}`);

function kindOf(stat: Stats): string {
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a named pipe';
  if (stat.isSocket()) return 'a socket';
  return 'a device';
}
