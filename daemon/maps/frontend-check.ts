// SPDX-License-Identifier: Apache-2.0
// The check of a frontend entry. The kernel may reuse a hash element for another key while a program reads it. With the check in
// the value, a program detects a value that belongs to another key. frontendCheck() must compute the same value as
// frontend_check4() and frontend_check6() in datapath/lib/service.h.
import { addressBytes } from '../model/address.ts';
import type { FrontendMapKey } from './types.ts';

const multiplier = 0x9e3779b97f4a7c15n;

const times = (word: bigint): bigint => BigInt.asUintN(64, word * multiplier);
const fold = (word: bigint): bigint => word ^ (word >> 32n);

/** An unsigned 24-bit number that depends on every bit of the key. */
export function frontendCheck(key: FrontendMapKey): number {
  const address = addressBytes(key.address);
  const bytes = new Uint8Array(address.length + 4);
  const view = new DataView(bytes.buffer);
  bytes.set(address);
  view.setUint16(address.length, key.port);
  view.setUint8(address.length + 2, key.protocol);
  if (address.length === 4) return Number(times(view.getBigUint64(0, true)) >> 40n);
  let hash = fold(times(view.getBigUint64(0, true)));
  hash = fold(times(hash + view.getBigUint64(8, true)));
  return Number(times(hash + BigInt(view.getUint32(16, true))) >> 40n);
}

/** Value of FrontendMapValue.meta. */
export const frontendMeta = (key: FrontendMapKey, flags: number): number => ((frontendCheck(key) << 8) | flags) >>> 0;
