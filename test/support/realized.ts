// SPDX-License-Identifier: Apache-2.0
// All frontends in the maps with their backends, for tests that compare them with the desired rows.
import { RealizedReader, type RealizedFrontend } from '../../daemon/maps/read/realized.ts';
import type { LbMaps } from '../../daemon/maps/types.ts';
import { families } from '../../daemon/model/address.ts';
import { compareText } from '../../daemon/model/order.ts';

/** Sorted by key. Throws what the maps throw. */
export function realized(maps: LbMaps): RealizedFrontend[] {
  const reader = new RealizedReader(maps);
  return families
    .flatMap((family) => [...maps.frontends[family].keys()].map((key) => reader.frontend(family, key)))
    .filter((frontend) => frontend !== undefined)
    .sort((a, b) => compareText(a.key, b.key));
}
