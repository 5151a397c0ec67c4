// SPDX-License-Identifier: Apache-2.0
// The directory of pins: what outlives the process. maps/NAME, links/PROGRAM-IFINDEX (or links/PROGRAM for a cgroup hook),
// clsact/PROGRAM-IFINDEX (a pinned program: the mark of a filter, which has no link of its own). Knows names and paths
// only; datapath.ts, devices.ts, sockets.ts and uninstall.ts make and remove the pins.
import { accessSync, constants, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ExitCode, ExitError } from '../base/errors.ts';
import { isBpffs, lockDirectory } from '../kernel/host.ts';

export type PinKind = 'maps' | 'links' | 'clsact';
const kinds: readonly PinKind[] = ['links', 'clsact', 'maps'];

/** Bpffs refuses dots in names, so a device is named by its index. */
export const devicePin = (program: string, ifindex: number): string => `${program}-${ifindex}`;

/** The parts of a devicePin; undefined for another name. */
export function parseDevicePin(name: string): { program: string; ifindex: number } | undefined {
  const match = /^(.+)-(\d+)$/.exec(name);
  return match === null ? undefined : { program: match[1] ?? '', ifindex: Number(match[2]) };
}

export class PinDirectory {
  readonly path: string;
  #lock: { release(): void } | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Makes the directories. Refuses a path where no pin of ours can be, before anything is made. */
  open(): void {
    this.refuseUnusable();
    for (const kind of kinds) mkdirSync(join(this.path, kind), { recursive: true, mode: 0o700 });
  }

  /** Throws ExitError when the path is not on a bpffs, cannot be written, or has pins that are not ours. Changes nothing. */
  refuseUnusable(): void {
    const { existing, isBpf } = this.#nearest();
    if (!isBpf) {
      throw new ExitError(
        ExitCode.bpffs,
        `--pin-path ${this.path} is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf, or name a directory of another bpffs`,
      );
    }
    try {
      accessSync(existing, constants.W_OK);
    } catch (cause) {
      const isReadOnly = (cause as NodeJS.ErrnoException).code === 'EROFS';
      throw new ExitError(
        ExitCode.bpffs,
        `--pin-path ${this.path} cannot be written${isReadOnly ? ', its bpffs is mounted read-only' : ''}: mount -o remount,rw ${existing}, or be root`,
        { cause },
      );
    }
    const held = this.list('maps');
    if (held.length > 0 && !held.includes('lb_config')) {
      throw new ExitError(
        ExitCode.bpffs,
        `${join(this.path, 'maps')} holds pins that are not Sluice's (${held.slice(0, 3).join(', ')}): name a --pin-path of its own`,
      );
    }
  }

  /** Makes again what somebody removed of the directories, and locks what is there now. A clause for each; throws ExitError. */
  repair(): string[] {
    const missing = kinds.filter((kind) => !existsSync(join(this.path, kind)));
    if (missing.length === 0) return [];
    const isNew = !existsSync(this.path);
    this.open();
    if (isNew) {
      // Our lock is on a directory that is gone.
      this.unlock();
      this.lock();
    }
    return [`missing directories: ${missing.map((kind) => `${kind}/`).join(', ')}`];
  }

  /** The path, or the lowest directory above it that exists. */
  #nearest(): { existing: string; isBpf: boolean } {
    let existing = this.path;
    while (!existsSync(existing)) existing = dirname(existing);
    return { existing, isBpf: isBpffs(existing) };
  }

  /** Takes the lock that keeps two daemons off one state; it is released when the process ends, however it ends. */
  lock(): void {
    this.#lock = lockDirectory(this.path);
    if (this.#lock === undefined) {
      throw new ExitError(ExitCode.locked, `another sluiced holds ${this.path}: stop it, or give this one a --pin-path of its own`);
    }
  }

  unlock(): void {
    this.#lock?.release();
    this.#lock = undefined;
  }

  pathOf(kind: PinKind, name: string): string {
    return join(this.path, kind, name);
  }

  /** Names of the pins of a kind, sorted; none when the directory does not exist. */
  list(kind: PinKind): string[] {
    const directory = join(this.path, kind);
    return existsSync(directory) ? readdirSync(directory).sort() : [];
  }

  has(kind: PinKind, name: string): boolean {
    return existsSync(this.pathOf(kind, name));
  }

  /** Removing an absent pin succeeds. */
  remove(kind: PinKind, name: string): void {
    rmSync(this.pathOf(kind, name), { force: true });
  }
}
