// SPDX-License-Identifier: Apache-2.0
// The canonical dump: what the maps say, with ids, indices and slot positions replaced by what they name and generations
// left out, so that two maps which forward alike print alike. From the maps alone. Used by tests, stories and the CLI.
import { type Family, families, hostPort } from '../model/address.ts';
import type { LbMaps } from '../maps/types.ts';
import { readRun, readSnapshot, type Snapshot, stateText } from './snapshot.ts';

/** Sorted lines: FE (frontends), SVC (runs by name of their smallest frontend), BE (backends in use). */
export function dumpMaps(maps: LbMaps): string[] {
  const snapshot = readSnapshot(maps);
  const names = serviceNames(snapshot);
  const nameOf = (index: number): string => names.get(index)?.text ?? '(no frontend)';
  const lines: string[] = [];
  for (const { text, scope, isSound, value } of snapshot.frontends) {
    lines.push(`FE ${text} ${scope} -> ${isSound ? `#${nameOf(value.service)}` : '(unsound)'}`);
  }
  for (const index of new Set([...names.keys(), ...snapshot.services.keys()])) {
    const among = names.has(index) ? [names.get(index)?.family ?? 'IPv4'] : families;
    lines.push(`SVC ${nameOf(index)} [${runTexts(maps, snapshot, { index, among }).join(' ')}]`);
  }
  for (const family of families) {
    for (const { address, port, service, meta } of snapshot.backends[family].values()) {
      lines.push(`BE ${nameOf(service)} ${hostPort(address, port)} ${stateText(meta)}`);
    }
  }
  return lines.sort();
}

/** Index -> its smallest frontend, with the scope when that is not internal. */
function serviceNames(snapshot: Snapshot): Map<number, { text: string; family: Family }> {
  const names = new Map<number, { text: string; family: Family }>();
  for (const { isSound, value, text, scope, family } of snapshot.frontends) {
    if (isSound && !names.has(value.service)) names.set(value.service, { text: scope === 'internal' ? text : `${text}/${scope}`, family });
  }
  return names;
}

function runTexts(maps: LbMaps, snapshot: Snapshot, of: { index: number; among: readonly Family[] }): string[] {
  const run = snapshot.services.get(of.index);
  if (run === undefined) return [];
  const ids = readRun(maps, run);
  if (ids === undefined) return ['(outside)'];
  return ids.map((id) => {
    const rows = of.among.map((family) => snapshot.backends[family].get(id));
    const row = rows.find((backend) => backend?.service === of.index);
    return row === undefined ? '(dangling)' : hostPort(row.address, row.port);
  });
}
