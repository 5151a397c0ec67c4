// SPDX-License-Identifier: Apache-2.0
// Checks whether the TCP ports of the settings are free, from the kernel's list of listening sockets. It opens no port. A port that is
// in use is only a warning, because the process may be the sluiced that is to be replaced. Called by offline/preflight.ts.
import { readFileSync } from 'node:fs';
import { type Check, CheckWarning } from '../base/check.ts';
import { addressBytes } from '../model/address.ts';

interface Place {
  readonly address: string;
  readonly port: number;
}

export interface PortSettings {
  readonly http: Place | undefined;
  readonly healthzBindAddress: Place | undefined;
  readonly metricsBindAddress: Place | undefined;
}

interface Listening {
  readonly address: Uint8Array;
  readonly port: number;
}

const proxyPort = 'sluiced starts nevertheless and opens the port when it is free; kube-proxy uses it by default';

/** One check for each port. `tables`: the contents of /proc/net/tcp and /proc/net/tcp6. */
export function portChecks(settings: PortSettings, tables: () => readonly string[] = kernelTables): Check[] {
  const places = [
    { flag: '--http', place: settings.http, hint: 'sluiced does not start while another program uses it: set another --http, or off' },
    { flag: '--healthz-bind-address', place: settings.healthzBindAddress, hint: proxyPort },
    { flag: '--metrics-bind-address', place: settings.metricsBindAddress, hint: proxyPort },
  ];
  return places.flatMap(({ flag, place, hint }) =>
    place === undefined ? [] : [{ name: `port ${place.port}`, run: () => portCheck(place, `${flag}: ${hint}`, tables()) }],
  );
}

function portCheck(place: Place, hint: string, tables: readonly string[]): string {
  const address = addressBytes(place.address);
  const isTaken = tables.flatMap(listeningSockets).some((each) => each.port === place.port && overlap(each.address, address));
  if (isTaken) throw new CheckWarning(`port ${place.port} of ${place.address} is in use (${hint})`);
  return `port ${place.port} of ${place.address} is free`;
}

const isAny = (address: Uint8Array): boolean => address.every((byte) => byte === 0);
const overlap = (a: Uint8Array, b: Uint8Array): boolean => isAny(a) || isAny(b) || Buffer.compare(a, b) === 0;

const LISTEN = '0A';

function listeningSockets(table: string): Listening[] {
  return table.split('\n').flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/);
    const [hex = '', port = ''] = local.split(':');
    if (state !== LISTEN) return [];
    // Each group of 32 bits is in host byte order, which is little-endian on amd64 and arm64.
    const address = Buffer.from(hex, 'hex').swap32();
    return [{ address, port: Number.parseInt(port, 16) }];
  });
}

function kernelTables(): string[] {
  return ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      // A kernel without IPv6 has no second table.
      return '';
    }
  });
}
