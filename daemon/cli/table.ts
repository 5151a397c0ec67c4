// SPDX-License-Identifier: Apache-2.0
// Layout of text tables, for all commands. Pure. It uses no colour, so that the output is the same in a terminal and in a pipe.

/** The lines of the title row and of each row, in columns that are three spaces apart. A cell may have several lines. */
export function tableLines(titles: readonly string[], rows: readonly (readonly string[])[]): string[][] {
  const blocks = [titles, ...rows].map((row) => {
    const cells = titles.map((_, column) => (row[column] ?? '').split('\n'));
    const height = Math.max(...cells.map((cell) => cell.length));
    return Array.from({ length: height }, (_, line) => cells.map((cell) => cell[line] ?? ''));
  });
  const widths = titles.map((_, column) => blocks.flat().reduce((width, line) => Math.max(width, line[column]?.length ?? 0), 0));
  const joined = (line: readonly string[]): string =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd();
  return blocks.map((block) => block.map(joined));
}

/** The number with the noun in singular or plural: "1 Service", "2 Services". */
export const counted = (count: number | string, noun: string): string => `${count} ${noun}${Number(count) === 1 ? '' : 's'}`;
