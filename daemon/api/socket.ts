// SPDX-License-Identifier: Apache-2.0
// Creates the Unix socket of the API: sets the modes and the group of the socket and of its directory, and replaces a stale socket. It must
// never take the path from a running daemon, and never remove anything except its own socket and a socket on which no process listens.
// Called by grpc.ts.
import { chmodSync, chownSync, lstatSync, mkdirSync, readFileSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';

import { ExitCode, ExitError } from '../base/errors.ts';
import { systemReason } from '../base/reasons.ts';

interface SocketOptions {
  readonly path: string;
  /** Name of the group that may connect; the group of root by default. */
  readonly group?: string | undefined;
}

const codeOf = (error: unknown): string => (error as NodeJS.ErrnoException).code ?? '';

/**
 * Listens on the path, with mode 0660 in a directory with mode 0750. Replaces the socket of a process that has ended. Throws ExitError when
 * the path is in use or cannot be created. A directory that was created for the socket then remains.
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
    throw new ExitError(ExitCode.failure, `cannot change the group of ${path} to ${group}: ${systemReason(error)}`, { cause: error });
  }
  inodes.set(server, lstatSync(path).ino);
  return server;
}

/** Inode of the socket of each server. */
const inodes = new WeakMap<Server, number>();

/** What is at the path of the server: its socket, nothing, or a file of another process. */
export function placeOf(server: Server): 'ours' | 'missing' | 'foreign' {
  const inode = lstatSync(server.address() as string, { throwIfNoEntry: false })?.ino;
  return inode === undefined ? 'missing' : inode === inodes.get(server) ? 'ours' : 'foreign';
}

/**
 * Stops listening and removes the socket. Node.js deletes whatever is at the path, so a file that has taken the place of the socket, such
 * as the socket of another daemon, is moved aside while the server closes.
 */
export function closeListener(server: Server): Promise<void> {
  const path = server.address() as string;
  const isForeign = placeOf(server) === 'foreign';
  const aside = `${path}.${process.pid}`;
  if (isForeign) renameSync(path, aside);
  const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
  if (isForeign) renameSync(aside, path);
  return closed;
}

function gidOf(group: string): number {
  for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === group && gid !== undefined) return Number(gid);
  }
  throw new ExitError(
    ExitCode.config,
    `the group ${group} is not in /etc/group: create it (groupadd ${group}), or set another --socket-group`,
  );
}

function makeDirectory(directory: string): void {
  try {
    const isNew = mkdirSync(directory, { recursive: true, mode: 0o750 }) !== undefined;
    // mkdir() applies the umask to the mode.
    if (isNew) chmodSync(directory, 0o750);
  } catch (error) {
    throw new ExitError(ExitCode.failure, `cannot create the directory ${directory} of the API socket: ${systemReason(error)}`, {
      cause: error,
    });
  }
}

async function removeStaleSocket(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new ExitError(ExitCode.config, `${path} exists and is not a socket: remove it, or set another path with --socket`);
  }
  const result = await probe(path);
  if (isTaken(result)) {
    throw new ExitError(ExitCode.locked, `another process listens on ${path}: stop it, or set another path with --socket`);
  }
  if (result !== 'ECONNREFUSED' && result !== 'ENOENT') {
    throw new ExitError(
      ExitCode.failure,
      `cannot determine whether the socket ${path} is in use (${result}): remove it, or set another path with --socket`,
    );
  }
  try {
    unlinkSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT')
      throw new ExitError(ExitCode.failure, `cannot remove the stale socket ${path}: ${systemReason(error)}`, { cause: error });
  }
}

/** EAGAIN: the listener cannot accept more connections at the moment. EPROTOTYPE: a process has bound a socket of another type. */
const isTaken = (result: string): boolean => ['connected', 'EAGAIN', 'EPROTOTYPE'].includes(result);

function probe(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve('connected');
    });
    socket.once('error', (error) => resolve(codeOf(error)));
  });
}

function listenPrivately(path: string, onConnection: (socket: Socket) => void): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer(onConnection);
    // The error listener stays: a later error, such as EMFILE of accept(), affects only the connection that could not be accepted.
    server.on('error', (error) => {
      const message =
        codeOf(error) === 'EADDRINUSE' ? `another process has taken ${path}` : `cannot listen on ${path}: ${systemReason(error)}`;
      const exitCode = codeOf(error) === 'EADDRINUSE' ? ExitCode.locked : ExitCode.failure;
      reject(new ExitError(exitCode, `${message}: set another path with --socket`, { cause: error }));
    });
    // The umask applies to the whole process. listen() binds synchronously, so no other file is created with this umask.
    const umask = process.umask(0o117);
    try {
      server.listen({ path }, () => resolve(server));
    } finally {
      process.umask(umask);
    }
  });
}

/**
 * Gives the socket to the group, and also the directory if Sluice created the directory now or in an earlier run: members of the
 * group need search permission on the directory.
 */
function giveToGroup(path: string, gid: number): void {
  const directory = statSync(dirname(path));
  const isOurs = directory.uid === process.geteuid?.() && (directory.mode & 0o777) === 0o750;
  if (isOurs) chownSync(dirname(path), directory.uid, gid);
  chownSync(path, -1, gid);
}
