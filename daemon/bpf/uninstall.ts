// SPDX-License-Identifier: Apache-2.0
// Lists and removes what Sluice leaves on the host: links (and with them the programs), filters, maps, pin directories, the API
// socket. Needs no daemon, and fails while one is running. Works from the pins alone, so it finds what any version created.
import { existsSync, readdirSync, rmdirSync, statSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { detachClsact } from '../kernel/link.ts';
import { parseDevicePin, PinDirectory, type PinKind } from './pins.ts';

export interface Removal {
  /** For people: "link /sys/fs/bpf/sluice/links/sock_connect4". */
  readonly what: string;
  readonly remove: () => void;
}

const order: readonly PinKind[] = ['links', 'clsact', 'maps'];
const names: Readonly<Record<PinKind, string>> = { links: 'link', clsact: 'filter', maps: 'map' };
const OUR_DIRECTORY_MODE = 0o750;

/** Everything there is to remove, in order. Locks the pin directory; throws ExitError when a daemon holds it. */
export function removals(paths: { readonly pinPath: string; readonly socket: string }): Removal[] {
  const found: Removal[] = [];
  if (existsSync(paths.pinPath)) found.push(...pinRemovals(new PinDirectory(paths.pinPath)));
  return [...found, ...socketRemovals(paths.socket)];
}

function pinRemovals(pins: PinDirectory): Removal[] {
  pins.lock();
  const found: Removal[] = [];
  for (const kind of order) {
    for (const name of pins.list(kind)) {
      found.push({ what: `${names[kind]} ${pins.pathOf(kind, name)}`, remove: () => removePin(pins, kind, name) });
    }
  }
  for (const kind of order) {
    const directory = join(pins.path, kind);
    if (existsSync(directory)) found.push({ what: `directory ${directory}`, remove: () => rmdirSync(directory) });
  }
  found.push({ what: `directory ${pins.path}`, remove: () => removeUnlessMount(pins) });
  return found;
}

function removePin(pins: PinDirectory, kind: PinKind, name: string): void {
  const device = kind === 'clsact' ? parseDevicePin(name) : undefined;
  if (device !== undefined) detachClsact(device.ifindex, device.program.endsWith('_in'));
  pins.remove(kind, name);
}

/** The pin path stays when it is the mount point of a bpffs, or holds files of another program. */
function removeUnlessMount(pins: PinDirectory): void {
  pins.unlock();
  try {
    rmdirSync(pins.path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== 'EBUSY' && code !== 'ENOTEMPTY') throw error;
  }
}

function socketRemovals(socket: string): Removal[] {
  const found: Removal[] = [];
  if (existsSync(socket)) found.push({ what: `socket ${socket}`, remove: () => unlinkSync(socket) });
  const directory = dirname(socket);
  // The directory is removed only if it has the mode that the daemon sets and contains nothing but the socket.
  const isOurs = existsSync(directory) && (statSync(directory).mode & 0o777) === OUR_DIRECTORY_MODE;
  const others = isOurs ? readdirSync(directory).filter((name) => join(directory, name) !== socket) : [];
  if (isOurs && others.length === 0) found.push({ what: `directory ${directory}`, remove: () => rmdirSync(directory) });
  return found;
}
