// SPDX-License-Identifier: Apache-2.0
// Order of text by its code units: the same on every host, whatever its locale. Pure.

/** For sort(): names, keys and lines. */
export const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
