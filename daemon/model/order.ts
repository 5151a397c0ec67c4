// SPDX-License-Identifier: Apache-2.0
// Order of text by its code units, which does not depend on the locale of the host. Pure. Used wherever names, keys or lines are sorted.

/** A comparator for sort(). */
export const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
