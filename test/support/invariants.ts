// SPDX-License-Identifier: Apache-2.0
// Invariants of the maps. They must hold after every step, even if operations failed, because the BPF programs rely on them at any
// time. The service index in a frontend has an owner, and the check value in a frontend fits the key. The slot ranges of Services
// do not overlap. Every slot in a range refers to a present backend of the same Service. A unit test checks them on maps whose
// operations fail (faulty-maps.ts).
import { families } from '../../daemon/model/address.ts';
import { frontendCheck } from '../../daemon/maps/frontend-check.ts';
import { BackendState, type LbMaps } from '../../daemon/maps/types.ts';
import { slotRangeOf } from '../../daemon/maps/rows.ts';

/** One message for each broken invariant. `owners` is LbOperations.owners(). */
export function brokenInvariants(maps: LbMaps, owners: ReadonlyMap<number, string>): string[] {
  return [...frontendProblems(maps, owners), ...runProblems(maps, owners)];
}

function frontendProblems(maps: LbMaps, owners: ReadonlyMap<number, string>): string[] {
  const problems: string[] = [];
  for (const family of families) {
    for (const [key, value] of maps.frontends[family].entries()) {
      if (!owners.has(value.service)) problems.push(`${key.address}:${key.port} refers to index ${value.service}, which has no owner`);
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
    if (count > 0 && !owners.has(index)) problems.push(`index ${index} has a run, but no owner`);
    const inFamilies = families.filter((family) => (owners.get(index) ?? '') === '' || owners.get(index)?.endsWith(family));
    maps.slots.read(base, count).forEach((id, i) => {
      const other = ownerOfSlot.get(base + i);
      if (other !== undefined) problems.push(`slot ${base + i} is in the runs of ${other} and ${index}`);
      ownerOfSlot.set(base + i, index);
      const rows = inFamilies.map((family) => maps.backends[family].get(id));
      const isThere = rows.some((row) => row.service === index && (row.meta & BackendState.present) !== 0);
      if (!isThere) problems.push(`index ${index} names backend ${id}, which is not a present backend of this index`);
    });
  }
  return problems;
}
