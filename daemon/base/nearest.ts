// SPDX-License-Identifier: Apache-2.0
// Finds the known name that a user probably meant. Pure. Used for settings and devices.

/** " (did you mean X?)" for the nearest name, or "" when no name is near. */
export function didYouMean(word: string, names: readonly string[]): string {
  const [nearest] = names.map((name) => ({ name, distance: editDistance(word, name) })).toSorted((a, b) => a.distance - b.distance);
  return nearest === undefined || nearest.distance > Math.max(2, word.length / 3) ? '' : ` (did you mean ${nearest.name}?)`;
}

/** Levenshtein distance. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 0; i < from.length; i += 1) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j += 1) {
      next.push(Math.min((row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1, (row[j] ?? 0) + (from[i] === to[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
