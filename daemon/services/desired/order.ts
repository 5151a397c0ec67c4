// SPDX-License-Identifier: Apache-2.0
// Order and equality of desired rows. Pure. Backends are sorted by address value, not by text, so 10.0.0.9 comes before
// 10.0.0.10. Because of this order, the run of slots and every dump are independent of the order of events.
import { compareAddresses } from '../../model/address.ts';
import { type Backend, type DesiredPort, type Frontend, frontendKey } from '../../model/frontend.ts';

/** Compares by address bytes, then by port. Both backends have the same family. */
export const compareBackends = (a: Backend, b: Backend): number => compareAddresses(a.address, b.address) || a.port - b.port;

/** True if both rows lead to the same state of the datapath. Both rows have the same key. */
export function isSamePort(a: DesiredPort, b: DesiredPort): boolean {
  return (
    a.affinitySeconds === b.affinitySeconds &&
    a.sourceRanges.join() === b.sourceRanges.join() &&
    a.frontends.length === b.frontends.length &&
    a.backends.length === b.backends.length &&
    a.frontends.every((frontend, i) => isSameFrontend(frontend, b.frontends[i])) &&
    a.backends.every((backend, i) => isSameBackend(backend, b.backends[i]))
  );
}

function isSameFrontend(a: Frontend, b: Frontend | undefined): boolean {
  return (
    b !== undefined &&
    a.type === b.type &&
    a.policy === b.policy &&
    a.hasSourceRanges === b.hasSourceRanges &&
    frontendKey(a) === frontendKey(b)
  );
}

function isSameBackend(a: Backend, b: Backend | undefined): boolean {
  return (
    b !== undefined &&
    a.address === b.address &&
    a.port === b.port &&
    a.isUsable === b.isUsable &&
    a.isLocallyUsable === b.isLocallyUsable &&
    a.isLocal === b.isLocal &&
    a.isServing === b.isServing
  );
}
