// SPDX-License-Identifier: Apache-2.0
// The directory of pins, which keep maps and links alive without the process: maps/NAME, links/PROGRAM-IFINDEX (links/PROGRAM
// for a cgroup hook), and clsact/PROGRAM-IFINDEX (a pinned program that marks a filter, since a filter has no link). This file
// defines names and paths; datapath.ts, attached.ts, devices.ts, sockets.ts and uninstall.ts decide which pins are created and
// removed.
import { accessSync, constants, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ExitCode, ExitError } from '../base/errors.ts';
import { isBpffs, lockDirectory } from '../kernel/host.ts';
import { pinNames, unpin } from '../kernel/map.ts';

export type PinKind = 'maps' | 'links' | 'clsact';
const kinds: readonly PinKind[] = ['links', 'clsact', 'maps'];

/** The name contains the index of the device and not its name, since bpffs rejects dots in names. */
export const devicePin = (program: string, ifindex: number): string => `${program}-${ifindex}`;

/** The program and the ifindex in a name that devicePin() made; undefined for another name. */
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

  /** Creates the directories. Throws ExitError, before anything is created, for a path that cannot hold our pins. */
  open(): void {
    this.refuseUnusable();
    for (const kind of kinds) mkdirSync(join(this.path, kind), { recursive: true, mode: 0o700 });
  }

  /** Throws ExitError when the path is not on a bpffs, cannot be written, or holds pins of another program. Changes nothing. */
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
        isReadOnly
          ? `--pin-path ${this.path} cannot be written, because its bpffs is mounted read-only: run mount -o remount,rw ${existing}`
          : `--pin-path ${this.path} cannot be written: run sluiced as root`,
        { cause },
      );
    }
    const held = this.list('maps');
    if (held.length > 0 && !held.includes('lb_config')) {
      throw new ExitError(
        ExitCode.bpffs,
        `${join(this.path, 'maps')} holds pins of another program (${held.slice(0, 3).join(', ')}): name another --pin-path`,
      );
    }
  }

  /**
   * Creates missing directories again. If the pin path itself was removed, locks the new directory too. Returns what was wrong. Throws
   * ExitError.
   */
  repair(): string[] {
    const missing = kinds.filter((kind) => !existsSync(join(this.path, kind)));
    if (missing.length === 0) return [];
    const isNew = !existsSync(this.path);
    this.open();
    if (isNew) {
      // This process still holds the lock of the removed directory. It must lock the new directory instead.
      this.unlock();
      this.lock();
    }
    return [`missing directories: ${missing.map((kind) => `${kind}/`).join(', ')}`];
  }

  /** The path, or the nearest directory above it that exists. */
  #nearest(): { existing: string; isBpf: boolean } {
    let existing = this.path;
    while (!existsSync(existing)) existing = dirname(existing);
    return { existing, isBpf: isBpffs(existing) };
  }

  /** Takes the lock that prevents two daemons from using the same pins. The kernel releases it when the process ends. */
  lock(): void {
    this.#lock = lockDirectory(this.path);
    if (this.#lock === undefined) {
      throw new ExitError(ExitCode.locked, `another sluiced holds ${this.path}: stop it, or give this one another --pin-path`);
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
    return existsSync(directory) ? pinNames(directory) : [];
  }

  has(kind: PinKind, name: string): boolean {
    return existsSync(this.pathOf(kind, name));
  }

  /** Removing an absent pin succeeds. */
  remove(kind: PinKind, name: string): void {
    unpin(this.pathOf(kind, name));
  }
}
