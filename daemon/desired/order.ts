// SPDX-License-Identifier: Apache-2.0
// Order and equality of desired rows. Pure. Sorting by value, not by text, keeps 10.0.0.9 before 10.0.0.10 and makes the
// run of slots, and so every dump, independent of the order of events.
import { addressBytes } from '../model/address.ts';
import { type Backend, type DesiredPort, frontendKey } from '../model/frontend.ts';

/** By address bytes, then port. Both of one family. */
export function compareBackends(a: Backend, b: Backend): number {
  return a.address === b.address ? a.port - b.port : compareAddresses(a.address, b.address);
}

function compareAddresses(a: string, b: string): number {
  if (!a.includes(':') && !b.includes(':')) return numberOf4(a) - numberOf4(b);
  const [left, right] = [addressBytes(a), addressBytes(b)];
  const at = left.findIndex((byte, i) => byte !== right[i]);
  return at === -1 ? 0 : (left[at] ?? 0) - (right[at] ?? 0);
}

const numberOf4 = (text: string): number => text.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);

/** True when the two rows ask the same of the datapath. Both of the same key. */
export function isSamePort(a: DesiredPort, b: DesiredPort): boolean {
  return (
    a.frontends.length === b.frontends.length &&
    a.backends.length === b.backends.length &&
    a.frontends.every((frontend, i) => b.frontends[i] !== undefined && frontendKey(frontend) === frontendKey(b.frontends[i])) &&
    a.backends.every((backend, i) => isSameBackend(backend, b.backends[i]))
  );
}

function isSameBackend(a: Backend, b: Backend | undefined): boolean {
  return (
    b !== undefined &&
    a.address === b.address &&
    a.port === b.port &&
    a.isUsable === b.isUsable &&
    a.isLocal === b.isLocal &&
    a.isServing === b.isServing
  );
}
