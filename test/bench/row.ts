// SPDX-License-Identifier: Apache-2.0
// A row of the benchmark: a figure of Sluice, a yardstick that is measured in the same rounds, and a goal. A group of rows shares
// maps, namespaces or daemons and has its own rounds. Pure; all row files and main.ts use it.
import { interval, type Interval, median, type Side, verdict } from './stats.ts';

/** The figures of one row in one round. */
export interface Sample {
  readonly ours: number;
  readonly theirs: number;
  /** The figure of a third system, for comparison. If it has another yardstick, `peerTheirs` is the figure of that yardstick. */
  readonly peer?: number;
  readonly peerTheirs?: number;
}

export interface Row {
  readonly name: string;
  readonly yardstick: string;
  readonly unit: string;
  readonly goal: Goal;
}

export interface Goal {
  /** Which figure is compared with the limit: the ratio of Sluice to the yardstick, or the figure of Sluice alone. */
  readonly of: 'ratio' | 'ours';
  readonly limit: number;
  readonly side: Side;
}

/** A group of rows. open() is called before the rounds and close() after them, also if a round throws. */
export interface Group<R extends Row = Row> {
  readonly rows: readonly R[];
  /** Maximum number of rounds, for groups whose rounds take long. */
  readonly mostRounds?: number;
  /** Creates what all rounds need, such as nodes and maps. This may take minutes. */
  open(rows: readonly R[]): Promise<void> | void;
  /** Returns one sample for each of these rows, in their order. */
  round(rows: readonly R[], number: number): Promise<Sample[]> | Sample[];
  /** Returns Markdown with figures that have no row of their own. Called after the rounds. */
  notes?(): string;
  /** Removes everything that open() made, also if open() failed. */
  close(): Promise<void> | void;
}

export interface Result {
  readonly row: string;
  readonly yardstick: string;
  readonly unit: string;
  readonly goal: Goal;
  readonly ours: number;
  readonly theirs: number;
  readonly ratio: Interval;
  readonly peer?: { readonly value: number; readonly ratio: number };
  readonly verdict: string;
}

/** Verdict of a row that has no figures in most rounds, because the measured case did not occur on this machine. */
export const NOT_SEEN = 'not seen';

/** A round without one of the two figures (NaN) does not count. */
export function resultOf(row: Row, samples: readonly Sample[]): Result {
  const seen = samples.filter(({ ours, theirs }) => Number.isFinite(ours) && Number.isFinite(theirs));
  const ratio = interval(seen.map(({ ours, theirs }) => ours / theirs));
  const judged = row.goal.of === 'ratio' ? ratio : interval(seen.map(({ ours }) => ours));
  const peers = samples.flatMap(({ peer, theirs, peerTheirs = theirs }) =>
    peer === undefined || !Number.isFinite(peer / peerTheirs) ? [] : [{ value: peer, ratio: peer / peerTheirs }],
  );
  const peer = { value: median(peers.map(({ value }) => value)), ratio: median(peers.map((each) => each.ratio)) };
  return {
    ...{ row: row.name, yardstick: row.yardstick, unit: row.unit, goal: row.goal },
    ...{ ours: median(seen.map(({ ours }) => ours)), theirs: median(seen.map(({ theirs }) => theirs)), ratio },
    ...(peers.length === 0 ? {} : { peer }),
    verdict: seen.length * 2 < samples.length ? NOT_SEEN : verdict(judged, row.goal),
  };
}
