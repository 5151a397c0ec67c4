// SPDX-License-Identifier: Apache-2.0
// Reads a file that people or other programs write, up to a limit. It must never block on a named pipe or a device, and never read more
// than the limit, even if the file grows while it is read. No message contains the path or the content.
import { closeSync, constants, fstatSync, openSync, readSync, statSync, type Stats } from 'node:fs';
import { ReasonError } from './errors.ts';
import type { Steps } from './slices.ts';

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
/** Maximum size of a piece that is read and decoded in one step: 0.1 ms. */
const PIECE_BYTES = 262_144;

/** Bytes that are not UTF-8 become replacement characters. Throws ReasonError, or the error of the system call. */
export function readBoundedText(path: string, limits: ReadLimits): string {
  const { fd, size } = open(path, limits);
  try {
    return readUpTo(fd, limits.maxBytes, size).toString('utf8');
  } finally {
    closeSync(fd);
  }
}

/**
 * Like readBoundedText(), in steps, for large files. Without a byte order mark. Returns `known` if it is the text of the file, which saves
 * the memory of another copy. Throws ERR_ENCODING_INVALID_ENCODED_DATA for bytes that are not UTF-8, also for an incomplete character at the
 * end.
 */
export function* readTextInSteps(path: string, { known, ...limits }: ReadLimits & { readonly known?: string | undefined }): Steps<string> {
  const { fd, size } = open(path, limits);
  try {
    const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, size + 1));
    const text = new GrowingText(known);
    let total = 0;
    // Bytes of an incomplete character that the previous piece ended with. They are at the start of the buffer.
    let left = 0;
    for (;;) {
      const count = readSync(fd, buffer, left, buffer.length - left, null);
      total += count;
      if (total > limits.maxBytes) throw tooLarge(limits.maxBytes);
      const bytes = buffer.subarray(0, left + count);
      // At the end of the file, an incomplete character is an error.
      const end = count === 0 ? bytes.length : endOfCharacters(bytes);
      text.add(new TextDecoder('utf-8', { fatal: true, ignoreBOM: !text.isEmpty }).decode(bytes.subarray(0, end)));
      if (count === 0) return text.value;
      left = bytes.copy(buffer, 0, end);
      yield;
    }
  } finally {
    closeSync(fd);
  }
}

/** A text that grows in pieces, and is compared with a known text. */
class GrowingText {
  readonly #known: string;
  #length = 0;
  /** Undefined while the text is the start of the known one. */
  #text: string | undefined;

  constructor(known = '') {
    this.#known = known;
  }

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  get value(): string {
    if (this.#text !== undefined) return this.#text;
    return this.#length === this.#known.length ? this.#known : this.#known.slice(0, this.#length);
  }

  add(piece: string): void {
    if (this.#text === undefined && !this.#known.startsWith(piece, this.#length)) this.#text = this.value;
    this.#length += piece.length;
    if (this.#text !== undefined) this.#text += piece;
  }
}

/** Length of the bytes without an incomplete UTF-8 character at their end. */
function endOfCharacters(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back += 1) {
    const byte = bytes[bytes.length - back] ?? 0;
    // The first byte of a character has its length in the upper bits; the other bytes begin with 10.
    if ((byte & 0xc0) === 0x80) continue;
    const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needed > back ? bytes.length - back : bytes.length;
  }
  return bytes.length;
}

/** Opens a file of an allowed kind and size. The caller closes it. */
function open(path: string, { maxBytes, waitsForPipe = false, onOpen }: ReadLimits): { readonly fd: number; readonly size: number } {
  // Opening a named pipe wakes up its writer, and opening a device may start something, so the kind of the file is checked first.
  check(statSync(path), waitsForPipe);
  // Without O_NONBLOCK, opening a named pipe would block until a writer opens it.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOCTTY | (waitsForPipe ? 0 : constants.O_NONBLOCK));
  try {
    const stat = fstatSync(fd);
    check(stat, waitsForPipe);
    if (stat.size > maxBytes) throw tooLarge(maxBytes);
    onOpen?.(fd, stat);
    return { fd, size: stat.size };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

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
