// SPDX-License-Identifier: Apache-2.0
// BPF object files: opens a compiled file, sets map sizes or reuses existing maps, loads it and finds its programs. When the verifier
// rejects a program, the KernelError names the program, the reason and the source line. It must never attach or pin anything (link.ts
// and map.ts do). Called by bpf/ and explain/.
import { KernelError } from '../base/errors.ts';
import { addressOf, checked, errnoName, inThread, kernelError, libbpf, type Pointer, withoutSignals } from './native.ts';
import type { MapInfo } from './map.ts';

const LOG_SIZE = 1 << 20;
/**
 * Maximum number of attempts to load an object. A signal can make an attempt fail, and each attempt repeats the verification, which takes
 * up to a second.
 */
const LOAD_ATTEMPTS = 5;

/** A map definition in the object file, before load. */
export type MapSpec = Omit<MapInfo, 'id'>;

export interface LoadOptions {
  /** max_entries by map name. Other maps get the size that the object file defines. */
  readonly sizes?: Readonly<Record<string, number>>;
  /** Descriptors of existing maps by name, used in place of new maps. They must have the layout that maps() returns. */
  readonly reuse?: Readonly<Record<string, number>>;
}

/**
 * The reason in a verifier log: the last line that is not statistics, with the source line that was quoted before it. Undefined when
 * the log is empty, which means that the kernel rejected the program before verification.
 */
export function verifierReason(log: string): string | undefined {
  const lines = log.split('\n').map((line) => line.trim());
  const isNoise = (line: string): boolean => /^(processed \d+|verification time|stack depth|peak_states|mark_precise|$)/.test(line);
  const last = lines.findLastIndex((line) => !isNoise(line));
  if (last === -1) return undefined;
  const source = lines.slice(0, last).findLast((line) => line.startsWith('; '));
  // A line such as "R5 offset is outside of the packet" explains the line before it.
  const before = lines[last - 1] ?? '';
  const reason =
    /^R\d+ /.test(lines[last] ?? '') && !isNoise(before) && !/^\d+: /.test(before) ? `${before} (${lines[last]})` : lines[last];
  return source === undefined ? reason : `${reason}, at ${source.slice(2)}`;
}

/** Version of libbpf: "1.5.0". */
export const libbpfVersion = (): string => libbpf.version().replace(/^v/, '');

function open(path: string): Pointer {
  const pointer = libbpf.objectOpen(path, null);
  const error = Number(libbpf.getError(pointer));
  if (error !== 0 || pointer === null) throw kernelError('open object', path, -error || 2);
  return pointer;
}

/** If a signal ended the call, the verifier returns EAGAIN. */
const isInterruption = ({ code }: KernelError): boolean => ['EINTR', 'EAGAIN'].includes(code);

export class BpfObject {
  readonly path: string;
  #pointer: Pointer;
  // The kernel writes into these buffers during load, so they must not be garbage collected.
  readonly #logs = new Map<string, Uint8Array>();

  /** Opens and parses the file. Nothing is loaded into the kernel yet. */
  constructor(path: string) {
    this.path = path;
    this.#pointer = open(path);
  }

  /** The maps that the object defines. */
  maps(): MapSpec[] {
    return [...this.#eachMap()].map((map) => ({
      name: libbpf.mapName(map),
      type: libbpf.mapType(map),
      keySize: libbpf.mapKeySize(map),
      valueSize: libbpf.mapValueSize(map),
      maxEntries: libbpf.mapMaxEntries(map),
      flags: libbpf.mapFlags(map),
    }));
  }

  /** Creates the maps that are not reused, and loads the programs. Attaches and pins nothing. */
  load(options: LoadOptions = {}): void {
    for (let attempt = 1, isLoaded = false; !isLoaded; attempt += 1) {
      this.#configure(options);
      isLoaded = this.#isLoaded(
        withoutSignals(() => libbpf.objectLoad(this.#pointer)),
        attempt,
      );
    }
  }

  /** Like load(), in another thread, because the verifier takes tenths of a second. The object must not be used or closed meanwhile. */
  async loadInThread(options: LoadOptions = {}): Promise<void> {
    for (let attempt = 1, isLoaded = false; !isLoaded; attempt += 1) {
      this.#configure(options);
      isLoaded = this.#isLoaded(await inThread(libbpf.objectLoad, this.#pointer), attempt);
    }
  }

  /** Descriptor of a loaded map. The object owns it. */
  mapFd(name: string): number {
    for (const map of this.#eachMap()) {
      if (libbpf.mapName(map) === name) return checked(libbpf.mapFd(map), 'find map', name);
    }
    throw kernelError('find map', `${name} in ${this.path}`, 2);
  }

  /** Descriptor of a loaded program. The object owns it. */
  programFd(name: string): number {
    for (const program of this.#eachProgram()) {
      if (libbpf.programName(program) === name) return checked(libbpf.programFd(program), 'find program', name);
    }
    throw kernelError('find program', `${name} in ${this.path}`, 2);
  }

  programNames(): string[] {
    return [...this.#eachProgram()].map((program) => libbpf.programName(program));
  }

  /** Closes all descriptors of the object. What is pinned or attached stays in the kernel. */
  close(): void {
    if (this.#pointer !== null) libbpf.objectClose(this.#pointer);
    this.#pointer = null;
  }

  #configure(options: LoadOptions): void {
    for (const map of this.#eachMap()) {
      const name = libbpf.mapName(map);
      const size = options.sizes?.[name];
      const fd = options.reuse?.[name];
      if (size !== undefined) checked(libbpf.mapSetMaxEntries(map, size), 'set size of map', name);
      if (fd !== undefined) checked(libbpf.mapReuseFd(map, fd), 'reuse map', name);
    }
    for (const program of this.#eachProgram()) {
      const log = new Uint8Array(LOG_SIZE);
      this.#logs.set(libbpf.programName(program), log);
      checked(libbpf.programSetLog(program, addressOf(log), log.length), 'set log buffer of', libbpf.programName(program));
    }
  }

  /** Handles the result of an attempt to load. Returns false if it must be repeated. Throws KernelError. */
  #isLoaded(rc: number, attempt: number): boolean {
    if (rc < 0) {
      const error = this.#loadError(-rc);
      if (!isInterruption(error) || attempt === LOAD_ATTEMPTS) throw error;
      // libbpf does not load an object twice.
      this.close();
      this.#pointer = open(this.path);
    }
    this.#logs.clear();
    return rc >= 0;
  }

  /** The error of a failed load. libbpf stops at the first program that fails, which is the last one with a log. */
  #loadError(errno: number): KernelError {
    const texts = [...this.#logs].map(([name, log]) => [name, new TextDecoder().decode(log.subarray(0, log.indexOf(0)))] as const);
    const [name, text] = texts.findLast(([, log]) => log !== '') ?? [undefined, ''];
    const reason = verifierReason(text);
    if (name === undefined || reason === undefined) return kernelError('load', this.path, errno);
    return new KernelError({ op: 'load program', object: name, errno, code: errnoName(errno), detail: reason });
  }

  *#eachMap(): IterableIterator<Pointer> {
    let map = libbpf.nextMap(this.#pointer, null);
    for (; map !== null; map = libbpf.nextMap(this.#pointer, map)) yield map;
  }

  *#eachProgram(): IterableIterator<Pointer> {
    let program = libbpf.nextProgram(this.#pointer, null);
    for (; program !== null; program = libbpf.nextProgram(this.#pointer, program)) yield program;
  }
}
