// SPDX-License-Identifier: Apache-2.0
// BPF maps by descriptor: bytes in, bytes out. The layouts of keys and values are in maps/. Every failure is a KernelError. Also opens,
// duplicates and pins descriptors. Called by maps/, bpf/ and explain/.
import { lstatSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { KernelError } from '../base/errors.ts';
import { checked, checkedErrno, closeFd, errno, kernelError, libbpf, libc, memory, type Pointer } from './native.ts';

export interface MapInfo {
  readonly id: number;
  /** BPF_MAP_TYPE_*. */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
}

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const PAGE = 4096;
const ENOENT = 2;
const EINTR = 4;
const ENOSPC = 28;
const BATCH = 4096;
/** Maximum number of interrupted batches in a row that return no entry. The kernel interrupts a batch when entries are deleted. */
const EMPTY_BATCHES = 100;

/** struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name[16]. */
export function mapInfo(fd: number): MapInfo {
  const info = new Uint8Array(88);
  const length = Uint32Array.of(info.length);
  checked(libbpf.objInfo(fd, info, length), 'map info', `fd ${fd}`);
  const view = new DataView(info.buffer);
  const word = (at: number): number => view.getUint32(at, true);
  const name = new TextDecoder().decode(info.subarray(24, 40)).replace(/\0.*$/s, '');
  return { type: word(0), id: word(4), keySize: word(8), valueSize: word(12), maxEntries: word(16), flags: word(20), name };
}

interface Mapping {
  readonly pointer: Pointer;
  readonly length: number;
  readonly isWritable: boolean;
  readonly memory: ArrayBuffer;
}

/** One open BPF map. Keys and values that are passed in must have the sizes of the map. */
export class BpfMap {
  readonly fd: number;
  readonly info: MapInfo;
  /** Size of a value as a lookup returns it. A per-CPU map returns one value for each possible CPU, each rounded up to 8 bytes. */
  readonly lookupSize: number;
  #mapped: Mapping | undefined;

  /** Takes ownership of `fd`. `cpus` is the number of possible CPUs; pass it for per-CPU maps only. */
  constructor(fd: number, cpus = 1) {
    this.fd = fd;
    try {
      this.info = mapInfo(fd);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.lookupSize = cpus === 1 ? this.info.valueSize : cpus * Math.ceil(this.info.valueSize / 8) * 8;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const value = new Uint8Array(this.lookupSize);
    const rc = libbpf.mapLookup(this.fd, key, value);
    if (rc === -ENOENT) return undefined;
    checked(rc, 'map lookup', this.info.name);
    return value;
  }

  /** Inserts or replaces an entry. Throws E2BIG when a hash map is full. */
  set(key: Uint8Array, value: Uint8Array): void {
    checked(libbpf.mapUpdate(this.fd, key, value, 0), 'map update', this.info.name);
  }

  /** Deletes an entry. A missing key is not an error. */
  delete(key: Uint8Array): void {
    const rc = libbpf.mapDelete(this.fd, key);
    if (rc !== -ENOENT) checked(rc, 'map delete', this.info.name);
  }

  /** All entries, read in batches. Entries that change meanwhile may be missing or old. A key and its value always belong together. */
  *entries(): IterableIterator<[Uint8Array, Uint8Array]> {
    const { keySize, maxEntries, name } = this.info;
    const at = new Uint8Array(Math.max(keySize, 4));
    let limit = BATCH;
    let interruptions = 0;
    for (let isFirst = true, isLast = false; !isLast;) {
      const keys = new Uint8Array(keySize * limit);
      const values = new Uint8Array(this.lookupSize * limit);
      const count = Uint32Array.of(limit);
      const rc = libbpf.mapLookupBatch(this.fd, isFirst ? null : at, at, keys, values, count, null);
      // A hash bucket has more entries than fit into the batch, so a larger batch is tried. A batch of the size of the map is always large
      // enough.
      if (rc === -ENOSPC && limit < Math.max(maxEntries, BATCH)) {
        limit *= 2;
        continue;
      }
      const found = rc === 0 || rc === -ENOENT || rc === -EINTR ? (count[0] ?? 0) : 0;
      isLast = rc === -ENOENT;
      if (!isLast && (rc !== -EINTR || interruptions >= EMPTY_BATCHES)) checked(rc, 'map lookup batch', name);
      // An interrupted batch contains the entries that were read before the interruption, and the next batch continues after them. If the
      // call was interrupted before it began, the kernel leaves the count unchanged.
      if (rc === -EINTR && (found === 0 || found === limit)) {
        interruptions += 1;
        continue;
      }
      interruptions = 0;
      isFirst = false;
      for (let i = 0; i < found; i += 1) {
        yield [keys.subarray(i * keySize, (i + 1) * keySize), values.subarray(i * this.lookupSize, (i + 1) * this.lookupSize)];
      }
    }
  }

  /**
   * The values of a BPF_F_MMAPABLE array as shared memory. The distance between values is the value size rounded up to 8 bytes. The mapping
   * is read-only until the first call with isWritable, which replaces the mapping. So a daemon that has nothing to write has no writable
   * mapping.
   */
  mmap(isWritable: boolean): ArrayBuffer {
    if (this.#mapped === undefined || (isWritable && !this.#mapped.isWritable)) {
      const fresh = this.#map(isWritable);
      this.#unmap();
      this.#mapped = fresh;
    }
    return this.#mapped.memory;
  }

  /**
   * Runs `work` on the shared memory that mmap() returns. Unless the map is mapped already, it is mapped read-only and only while
   * `work` runs, because all pages of a mapping count as memory of this process.
   */
  withMapping<T>(work: (memory: ArrayBuffer) => T): T {
    if (this.#mapped !== undefined) return work(this.#mapped.memory);
    this.#mapped = this.#map(false);
    try {
      return work(this.#mapped.memory);
    } finally {
      this.#unmap();
    }
  }

  /** Closes the map. Memory from mmap() must not be used afterwards. */
  close(): void {
    this.#unmap();
    closeFd(this.fd);
  }

  #map(isWritable: boolean): Mapping {
    const length = Math.ceil((Math.ceil(this.info.valueSize / 8) * 8 * this.info.maxEntries) / PAGE) * PAGE;
    const pointer = libc.mmap(null, length, isWritable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, this.fd, 0);
    const failed = errno();
    if (pointer === 0xffffffffffffffffn) throw kernelError('map mmap', this.info.name, failed);
    return { pointer, length, isWritable, memory: memory(pointer, length) };
  }

  #unmap(): void {
    if (this.#mapped !== undefined) checkedErrno(libc.munmap(this.#mapped.pointer, this.#mapped.length), 'map munmap', this.info.name);
    this.#mapped = undefined;
  }
}

/** Opens a pinned map, program or link. Returns undefined when the pin does not exist. The caller owns the descriptor. */
export function openPin(path: string): number | undefined {
  const fd = libbpf.objGet(path);
  if (fd === -ENOENT) return undefined;
  if (fd < 0) throw pinError('open pin', path, -fd);
  return fd;
}

/** The kind of BPF object that a descriptor refers to; undefined for another descriptor. The info call does not return the kind. */
export function objectKind(fd: number): 'map' | 'program' | 'link' | undefined {
  const [, word] = /^(map|prog|link)_type:/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
  return word === 'prog' ? 'program' : (word as 'map' | 'link' | undefined);
}

/** Duplicates a descriptor. The caller owns the result. */
export function duplicate(fd: number): number {
  return checkedErrno(libc.dup(fd), 'dup', `fd ${fd}`);
}

/** Pins a map, program or link. */
export function pin(fd: number, path: string): void {
  const rc = libbpf.objPin(fd, path);
  if (rc < 0) throw pinError('pin', path, -rc);
}

/** Removes a pin. Removing an absent pin succeeds. */
export function unpin(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw pinError('unpin', path, Math.abs((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

/** Whether a directory is in the place of a pin. */
export const isDirectory = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/** The failure of a call about a pin. The kernel says only EACCES when a directory is in its place. */
function pinError(op: string, path: string, number: number): KernelError {
  const { errno: failed, code } = kernelError(op, path, number);
  const place = { op, object: path, errno: failed, code };
  return new KernelError(isDirectory(path) ? { ...place, detail: 'the path is a directory and not a pin: remove it' } : place);
}

/** Names of the pins in a directory, sorted. */
export function pinNames(directory: string): string[] {
  try {
    return readdirSync(directory).sort();
  } catch (error) {
    throw kernelError('list', directory, -((error as NodeJS.ErrnoException).errno ?? 0));
  }
}

export { closeFd };
