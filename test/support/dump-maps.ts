// SPDX-License-Identifier: Apache-2.0
// The canonical dump of the maps: ids, indices and slot positions are replaced by the objects that they refer to, and generations
// are left out. Maps with the same forwarding behaviour have the same dump, even if their histories differ. It must read only the
// maps, never state of the daemon. Used by unit tests, stories and kernel tests.
import { type Family, families, hostPort } from '../../daemon/model/address.ts';
import { AddressSetNumber, BackendState, type LbMaps, type Range } from '../../daemon/maps/types.ts';
import { readRun, readSnapshot, type Snapshot } from '../../daemon/maps/read/snapshot.ts';
import { cidrText, flagsText } from '../../daemon/maps/rows.ts';

/**
 * Sorted lines: FE (frontends), SVC (backends of a service index, which is named by its first frontend), BE (backends in use), RNG
 * (source ranges of a Service port), SET (address sets of the node).
 */
export function dumpMaps(maps: LbMaps): string[] {
  const snapshot = readSnapshot(maps);
  const names = serviceNames(snapshot);
  const nameOf = (index: number): string => names.get(index)?.text ?? '(no frontend)';
  const lines: string[] = [];
  for (const { text, flags, isSound, value } of snapshot.frontends) {
    lines.push(`FE ${text} ${flagsText(flags)} -> ${isSound ? `#${nameOf(value.service)}` : '(unsound)'}`);
  }
  for (const index of new Set([...names.keys(), ...snapshot.services.keys()])) {
    const inFamilies = names.has(index) ? [names.get(index)?.family ?? 'IPv4'] : families;
    lines.push(`SVC ${nameOf(index)} ${setsText(maps, snapshot, { index, inFamilies })}`);
  }
  for (const family of families) {
    for (const { address, port, service, meta } of snapshot.backends[family].values()) {
      lines.push(`BE ${nameOf(service)} ${hostPort(address, port)} ${stateText(meta)}`);
    }
    for (const [index, keys] of snapshot.ranges[family]) for (const key of keys) lines.push(`RNG ${nameOf(index)} ${cidrText(key)}`);
    for (const key of maps.ranges[family].entries()) {
      const set = Object.entries(AddressSetNumber).find(([, number]) => number === key.set);
      if (set !== undefined) lines.push(`SET ${set[0]} ${cidrText(key)}`);
    }
  }
  return lines.sort();
}

/** "usable,locally-usable,local,serving"; "-" when no bit is set. */
function stateText(meta: number): string {
  const { usable, locallyUsable, local, serving } = BackendState;
  const names = Object.entries({ usable, 'locally-usable': locallyUsable, local, serving }).filter(([, bit]) => (meta & bit) !== 0);
  return names.length === 0 ? '-' : names.map(([name]) => name).join(',');
}

/** Names each service index after the frontend whose text sorts first. */
function serviceNames(snapshot: Snapshot): Map<number, { text: string; family: Family }> {
  const names = new Map<number, { text: string; family: Family }>();
  for (const { isSound, value, text, family } of snapshot.frontends) {
    if (isSound && !names.has(value.service)) names.set(value.service, { text, family });
  }
  return names;
}

/** "[10.0.0.1:80 10.0.0.2:80]", followed by " local [...]" and " affinity 10800" where the row has them. */
function setsText(maps: LbMaps, snapshot: Snapshot, of: { index: number; inFamilies: readonly Family[] }): string {
  const row = snapshot.services.get(of.index);
  if (row === undefined) return '[]';
  const text = (run: Range): string => `[${runTexts(maps, snapshot, { ...of, run }).join(' ')}]`;
  const local = row.localCount === 0 ? '' : ` local ${text({ base: row.localBase, count: row.localCount })}`;
  return `${text(row)}${local}${row.affinity === 0 ? '' : ` affinity ${row.affinity}`}`;
}

function runTexts(maps: LbMaps, snapshot: Snapshot, of: { index: number; inFamilies: readonly Family[]; run: Range }): string[] {
  const ids = readRun(maps, of.run);
  if (ids === undefined) return ['(outside)'];
  return ids.map((id) => {
    const rows = of.inFamilies.map((family) => snapshot.backends[family].get(id));
    const row = rows.find((backend) => backend?.service === of.index);
    return row === undefined ? '(dangling)' : hostPort(row.address, row.port);
  });
}
