// SPDX-License-Identifier: Apache-2.0
// Limits the log lines of one kind: a fault that concerns every row, file or port at once must not write a line for each of them. The first
// lines of a period are written, and at its end the number of the others. It must never drop a line without counting it.
import type { Clock } from './clock.ts';

/** Maximum number of lines of one kind in one period. A person reads no more, and the status shows what is wrong at present. */
export const LOGGED_LINES = 100;
export const LOG_PERIOD_MS = 10_000;

export interface LimitedLog<Args extends readonly unknown[]> {
  /** Writes a line. */
  readonly write: (...args: Args) => void;
  /** Writes a line with the number of lines that were left out. */
  readonly leftOut: (count: number) => void;
}

/** Returns a function like `write`, which writes at most LOGGED_LINES lines in each period. */
export function limitedLog<Args extends readonly unknown[]>(
  clock: Pick<Clock, 'setTimer'>,
  { write, leftOut }: LimitedLog<Args>,
): (...args: Args) => void {
  let count = 0;
  const endPeriod = (): void => {
    if (count > LOGGED_LINES) leftOut(count - LOGGED_LINES);
    count = 0;
  };
  return (...args) => {
    if (count === 0) clock.setTimer(LOG_PERIOD_MS, endPeriod);
    count += 1;
    if (count <= LOGGED_LINES) write(...args);
  };
}
