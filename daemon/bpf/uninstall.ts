// SPDX-License-Identifier: Apache-2.0
// Lists and removes what Sluice leaves on the host: links (and with them the programs), filters, maps, pin directories, the API socket. It
// works from the pins alone, so it finds what any version created. Items that Sluice did not create are listed with the reason and stay in
// place. It needs no daemon, and removes nothing while a daemon is running. Called by offline/uninstall.ts.
import { existsSync, lstatSync, readdirSync, rmdirSync, statSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ReasonError } from '../base/errors.ts';
import { detachClsact } from '../kernel/clsact.ts';
import { isBpffs, lockHolder, unixListener } from '../kernel/host.ts';
import { OwnPins } from './own-pins.ts';
import { parseDevicePin, PinDirectory, type PinKind } from './pins.ts';

/** An item on the host that is removed or stays in place. */
export interface Removal {
  /** Name of the item in messages: "link /sys/fs/bpf/sluice/links/sock_connect4". */
  readonly what: string;
  /** Why the item stays in place; undefined if Sluice created it, so that it is removed. */
  readonly left: string | undefined;
  /** Must not be called for an item that stays in place. */
  readonly remove: () => void;
}

export interface UninstallPaths {
  readonly pinPath: string;
  readonly socket: string;
}

const order: readonly PinKind[] = ['links', 'clsact', 'maps'];
const names: Readonly<Record<PinKind, string>> = { links: 'link', clsact: 'filter', maps: 'map' };
const OUR_DIRECTORY_MODE = 0o750;

const left = (what: string, reason: string): Removal => ({ what, left: reason, remove: () => undefined });
const ours = (what: string, remove: () => void): Removal => ({ what, left: undefined, remove });

/** All items to remove or to leave in place, in order. Locks the pin directory. Throws ExitError when a daemon holds the lock. */
export function removals({ pinPath, socket }: UninstallPaths): Removal[] {
  const pins = new PinDirectory(pinPath);
  const isPins = existsSync(pinPath);
  if (isPins && isBpffs(pinPath)) pins.lock();
  return [...(isPins ? pinRemovals(pins) : []), ...socketRemovals(socket, undefined)];
}

/** Like removals(), without the lock, so that it can be called while a daemon runs. `daemon` is the process id of that daemon. */
export function plannedRemovals({ pinPath, socket }: UninstallPaths): { removals: Removal[]; daemon: number | undefined } {
  const isPins = existsSync(pinPath);
  const daemon = isPins ? lockHolder(pinPath) : undefined;
  return { removals: [...(isPins ? pinRemovals(new PinDirectory(pinPath)) : []), ...socketRemovals(socket, daemon)], daemon };
}

function pinRemovals(pins: PinDirectory): Removal[] {
  if (!isBpffs(pins.path)) return [left(`directory ${pins.path}`, 'it is not on a BPF file system, so it is not the pin path of a daemon')];
  const own = new OwnPins(pins);
  const found = order.flatMap((kind) => pins.list(kind).map((name) => pinRemoval(pins, own, { kind, name })));
  const isKept = (directory: string): boolean => found.some((each) => each.left !== undefined && each.what.includes(` ${directory}/`));
  for (const kind of order) {
    const directory = join(pins.path, kind);
    if (existsSync(directory) && !isKept(directory)) found.push(ours(`directory ${directory}`, () => rmdirSync(directory)));
  }
  const known: readonly string[] = order;
  for (const name of readdirSync(pins.path)
    .filter((each) => !known.includes(each))
    .sort())
    found.push(left(`file ${join(pins.path, name)}`, 'Sluice does not use this name'));
  if (!isKept(pins.path) && !isMount(pins.path)) found.push(ours(`directory ${pins.path}`, () => removeDirectory(pins)));
  return found;
}

function pinRemoval(pins: PinDirectory, own: OwnPins, { kind, name }: { kind: PinKind; name: string }): Removal {
  const what = `${names[kind]} ${pins.pathOf(kind, name)}`;
  const reason = own.foreign(kind, name);
  return reason === undefined ? ours(what, () => removePin(pins, own, { kind, name })) : left(what, reason);
}

function removePin(pins: PinDirectory, own: OwnPins, { kind, name }: { kind: PinKind; name: string }): void {
  const device = kind === 'clsact' ? parseDevicePin(name) : undefined;
  if (device !== undefined && own.hasOwnFilter(name)) detachClsact(device.ifindex, device.program.endsWith('_in'));
  pins.remove(kind, name);
}

function removeDirectory(pins: PinDirectory): void {
  pins.unlock();
  rmdirSync(pins.path);
}

/** Whether the directory is the mount point of a bpffs, which Sluice did not make. */
const isMount = (directory: string): boolean => statSync(directory).dev !== statSync(dirname(directory)).dev;

/** `daemon` is the process id of the daemon that is to be uninstalled and still runs; undefined if none runs. */
function socketRemovals(socket: string, daemon: number | undefined): Removal[] {
  const stat = lstatSync(socket, { throwIfNoEntry: false });
  const reason = stat === undefined ? undefined : stat.isSocket() ? whyServed(socket, daemon) : 'it is not a socket';
  if (reason !== undefined) return [left(stat?.isSocket() === true ? `socket ${socket}` : `file ${socket}`, reason)];
  const found = stat === undefined ? [] : [ours(`socket ${socket}`, () => unlinkSame(socket, stat.ino))];
  const directory = dirname(socket);
  // The directory is removed only if it has the mode that the daemon sets and contains nothing but the socket.
  const isOurs = existsSync(directory) && (statSync(directory).mode & 0o777) === OUR_DIRECTORY_MODE;
  const others = isOurs ? readdirSync(directory).filter((name) => join(directory, name) !== socket) : [];
  if (isOurs && others.length === 0) found.push(ours(`directory ${directory}`, () => rmdirSync(directory)));
  return found;
}

/** Why the socket stays in place; undefined if nobody listens on it, or only the daemon that is to be uninstalled. */
function whyServed(socket: string, daemon: number | undefined): string | undefined {
  const listener = unixListener(socket);
  if (listener === 'ECONNREFUSED' || listener === 'ENOENT') return undefined;
  if (typeof listener === 'string') return `it cannot be determined whether a process listens on it (${listener})`;
  // The process id is 0 for a process in another PID namespace.
  const isDaemon = daemon !== undefined && (listener === daemon || listener === 0 || daemon === 0);
  return isDaemon
    ? undefined
    : `a process${listener === 0 ? '' : ` (${listener})`} listens on it: stop it, or give its socket another path`;
}

/** Removes the socket unless another file has taken its place. */
function unlinkSame(socket: string, inode: number): void {
  if (lstatSync(socket).ino !== inode || unixListener(socket) !== 'ECONNREFUSED')
    throw new ReasonError('a process has just taken the path');
  unlinkSync(socket);
}
