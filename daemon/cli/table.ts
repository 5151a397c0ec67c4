// SPDX-License-Identifier: Apache-2.0
// Columns of text, as every table of the CLI has them. Pure; no colour, so that the output is the same in a pipe.

/** Rows aligned under their titles, three spaces between columns, none after the last: the lines of the titles, then of each row. */
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

/** "10.0.0.1:80", "[fd00::1]:80". */
export const hostPort = (address: string, port: number): string => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`);

/** "1 Service", "2 Services". */
export const counted = (count: number | string, noun: string): string => `${count} ${noun}${Number(count) === 1 ? '' : 's'}`;
