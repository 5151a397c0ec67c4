// SPDX-License-Identifier: Apache-2.0
// What must hold in the maps after every single step, whatever failed (design.md, 3.1 and 3.3). Checked on the good maps
// inside the faulty ones.
import { families } from '../../daemon/model/address.ts';
import { frontendCheck } from '../../daemon/maps/frontend-check.ts';
import { BackendState, type LbMaps } from '../../daemon/maps/types.ts';
import { slotRangeOf } from '../../daemon/maps/rows.ts';

/** Sentences, empty when all is well. `owners`: LbOperations.owners(). */
export function brokenInvariants(maps: LbMaps, owners: ReadonlyMap<number, string>): string[] {
  return [...frontendProblems(maps, owners), ...runProblems(maps, owners)];
}

function frontendProblems(maps: LbMaps, owners: ReadonlyMap<number, string>): string[] {
  const problems: string[] = [];
  for (const family of families) {
    for (const [key, value] of maps.frontends[family].entries()) {
      if (!owners.has(value.service)) problems.push(`${key.address}:${key.port} leads to index ${value.service}, which has no owner`);
      if (value.meta >>> 8 !== frontendCheck(key)) problems.push(`${key.address}:${key.port} has a wrong check`);
    }
  }
  return problems;
}

function runProblems(maps: LbMaps, owners: ReadonlyMap<number, string>): string[] {
  const problems: string[] = [];
  const ownerOfSlot = new Map<number, number>();
  for (let index = 0; index < maps.services.capacity; index += 1) {
    const { base, count } = slotRangeOf(maps.services.get(index));
    if (count > 0 && !owners.has(index)) problems.push(`index ${index} has a run and no owner`);
    const among = families.filter((family) => (owners.get(index) ?? '') === '' || owners.get(index)?.endsWith(family));
    maps.slots.read(base, count).forEach((id, i) => {
      const other = ownerOfSlot.get(base + i);
      if (other !== undefined) problems.push(`slot ${base + i} is in the runs of ${other} and ${index}`);
      ownerOfSlot.set(base + i, index);
      const rows = among.map((family) => maps.backends[family].get(id));
      const isThere = rows.some((row) => row.service === index && (row.meta & BackendState.present) !== 0);
      if (!isThere) problems.push(`index ${index} names backend ${id}, which is not present under it`);
    });
  }
  return problems;
}
