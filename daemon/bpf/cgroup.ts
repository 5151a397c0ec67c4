// SPDX-License-Identifier: Apache-2.0
// Finds the cgroup to which the socket programs are attached, and checks that no other program holds its hooks exclusively. Reads only.
import { release } from 'node:os';
import { dirname } from 'node:path';
import { ExitCode, isNotSupported, ExitError } from '../base/errors.ts';
import { findCgroup2, isCgroup2 } from '../kernel/host.ts';
import { cgroupPrograms } from '../kernel/link.ts';
import { socketHooks } from './sockets.ts';

const ALLOW_MULTI = 2;

/** The named cgroup, or else the mount point of cgroup v2. Throws ExitError when that is not a directory of cgroup v2. */
export function socketCgroup(named: string | undefined): string {
  const cgroup = named ?? findCgroup2();
  if (cgroup === undefined) {
    throw new ExitError(ExitCode.cgroup, 'no cgroup v2 is mounted: mount -t cgroup2 none /sys/fs/cgroup, or use --socket-lb off');
  }
  let isV2 = false;
  try {
    isV2 = isCgroup2(cgroup);
  } catch (cause) {
    throw new ExitError(ExitCode.cgroup, `--cgroup ${cgroup} cannot be opened: name a directory of a cgroup v2 mount`, { cause });
  }
  if (!isV2) throw new ExitError(ExitCode.cgroup, `--cgroup ${cgroup} is not cgroup v2: name a directory of a cgroup2 mount`);
  return cgroup;
}

/**
 * Throws ExitError when a program on this cgroup, or on a cgroup above it, is attached exclusively: the kernel would then reject
 * our programs with EPERM.
 */
export function requireFreeHooks(cgroup: string): string {
  for (const { program, type } of socketHooks) {
    for (let directory = cgroup; isCgroup2(directory); directory = dirname(directory)) {
      const { ids, flags } = programsOf(directory, type);
      // A program on a cgroup above permits our programs if it is attached with BPF_F_ALLOW_OVERRIDE or BPF_F_ALLOW_MULTI. A program on the
      // same cgroup permits them only with BPF_F_ALLOW_MULTI.
      const isExclusive = directory === cgroup ? (flags & ALLOW_MULTI) === 0 : flags === 0;
      if (ids.length === 0 || !isExclusive) continue;
      throw new ExitError(
        ExitCode.occupied,
        `program ${ids.join(', ')} holds the ${program.replace('sock_', '')} hook of cgroup ${directory} exclusively: detach it (bpftool cgroup show ${directory}), give --cgroup another directory, or use --socket-lb off`,
      );
    }
  }
  return `the socket hooks of ${cgroup} accept the programs of Sluice`;
}

function programsOf(directory: string, type: number): { ids: readonly number[]; flags: number } {
  try {
    return cgroupPrograms(directory, type);
  } catch (error) {
    if (!isNotSupported(error)) throw error;
    throw new ExitError(
      ExitCode.kernel,
      `kernel ${release()} does not support the cgroup socket hook with attach type ${type}: run kernel 5.8 or later, or use --socket-lb off`,
      { cause: error },
    );
  }
}
