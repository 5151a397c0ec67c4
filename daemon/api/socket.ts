// SPDX-License-Identifier: Apache-2.0
// The Unix socket that the API listens on: its directory, its modes and group, and what to do with a file already there.
// It must never take a path from a living daemon, nor remove a file that is not a socket.
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';

import { ExitCode, messageOf, ExitError } from '../base/errors.ts';

interface SocketOptions {
  readonly path: string;
  /** Name of the group that may connect; root's group when not given. */
  readonly group?: string | undefined;
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/**
 * Listens at the path, mode 0660 in a directory of mode 0750. A socket left by a dead process is replaced.
 * Throws ExitError when the path is taken or cannot be made; nothing is left behind then but the directory.
 */
export async function listenOnSocket(options: SocketOptions, onConnection: (socket: Socket) => void): Promise<Server> {
  const { path, group } = options;
  const gid = group === undefined ? undefined : gidOf(group);
  makeDirectory(dirname(path));
  await removeStaleSocket(path);
  const server = await listenPrivately(path, onConnection);
  try {
    if (gid !== undefined) giveToGroup(path, gid);
  } catch (error) {
    server.close();
    throw new ExitError(ExitCode.failure, `cannot give ${path} to the group ${group}: ${messageOf(error)}`, { cause: error });
  }
  return server;
}

function gidOf(group: string): number {
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === group && gid !== undefined) return Number(gid);
  }
  throw new ExitError(
    ExitCode.config,
    `the group ${group} is not in /etc/group: create it (groupadd ${group}) or give another --socket-group`,
  );
}

function makeDirectory(directory: string): void {
  try {
    const isNew = mkdirSync(directory, { recursive: true, mode: 0o750 }) !== undefined;
    // mkdir's mode passes through the umask.
    if (isNew) chmodSync(directory, 0o750);
  } catch (error) {
    throw new ExitError(ExitCode.failure, `cannot make the directory ${directory} for the API socket: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new ExitError(ExitCode.config, `${path} exists and is not a socket: remove it, or give another path with --socket`);
  }
  const answer = await probe(path);
  if (answer === 'answered') {
    throw new ExitError(ExitCode.locked, `another process answers at ${path}: stop it, or give another path with --socket`);
  }
  if (answer !== 'ECONNREFUSED' && answer !== 'ENOENT') {
    throw new ExitError(
      ExitCode.failure,
      `cannot tell whether the socket ${path} is in use (${answer}): remove it, or give another path with --socket`,
    );
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT')
      throw new ExitError(ExitCode.failure, `cannot remove the stale socket ${path}: ${messageOf(error)}`, { cause: error });
  }
}

function probe(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve('answered');
    });
    socket.once('error', (error) => resolve(codeOf(error)));
  });
}

function listenPrivately(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(onConnection);
    server.once('error', (error) => {
      const sentence =
        codeOf(error) === 'EADDRINUSE' ? `another process has just taken ${path}` : `cannot listen at ${path}: ${error.message}`;
      const exitCode = codeOf(error) === 'EADDRINUSE' ? ExitCode.locked : ExitCode.failure;
      reject(new ExitError(exitCode, `${sentence}: give another path with --socket`, { cause: error }));
    });
    // The umask belongs to the whole process; bind() happens inside this synchronous call, so nothing else is made under it.
    const umask = process.umask(0o117);
    try {
      server.listen({ path }, () => resolve(server));
    } finally {
      process.umask(umask);
    }
  });
}

/** The directory too when it is ours (made by us, now or in an earlier run), since members must pass through it. */
function giveToGroup(path: string, gid: number): void {
  const directory = statSync(dirname(path));
  const isOurs = directory.uid === process.geteuid?.() && (directory.mode & 0o777) === 0o750;
  if (isOurs) chownSync(dirname(path), directory.uid, gid);
  chownSync(path, -1, gid);
}
