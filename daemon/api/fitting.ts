// SPDX-License-Identifier: Apache-2.0
// Limits the repeated fields of a message by their number and by their size in bytes, so that the message fits into a response whatever
// names and problems the objects have. It must never leave out an element without counting it. Pure. Called by messages.ts.

/** Maximum number of UTF-16 code units of a text that names objects. */
const MAX_TEXT = 1000;

export interface Fitting<T> {
  readonly kept: T[];
  /** Number of elements that are left out. */
  readonly more: number;
}

/**
 * The first elements, as far as there are at most `count` and they have at most `bytes` bytes together. The size is that of their JSON text,
 * which is about that of the message: the names of fields in JSON take more than their numbers in the message.
 */
export function fitting<T>(elements: readonly T[], { count, bytes }: { readonly count: number; readonly bytes: number }): Fitting<T> {
  const kept: T[] = [];
  let size = 0;
  for (const element of elements.slice(0, count)) {
    size += Buffer.byteLength(JSON.stringify(element));
    if (size > bytes) break;
    kept.push(element);
  }
  return { kept, more: elements.length - kept.length };
}

/** The first texts, each shortened. If there are more, the last element states how many. */
export function fittingTexts(texts: readonly string[], most: { readonly count: number; readonly bytes: number }): string[] {
  const { kept, more } = fitting(texts.slice(0, most.count).map(short), most);
  const left = more + Math.max(0, texts.length - most.count);
  return left === 0 ? kept : [...kept, `and ${left} more`];
}

export const short = (text: string): string => (text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)}...`);
