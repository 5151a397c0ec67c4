// SPDX-License-Identifier: Apache-2.0
// What a row of the bench is: something of ours beside a yardstick, both taken in every round, and a goal. Groups of rows share
// what they need (maps, namespaces, daemons) and take their own rounds. Pure.
import { interval, type Interval, median, type Side, verdict } from './stats.ts';

/** One round of one row. */
export interface Sample {
  readonly ours: number;
  readonly theirs: number;
  /** Another system beside both. */
  readonly peer?: number;
}

export interface Row {
  readonly name: string;
  readonly yardstick: string;
  readonly unit: string;
  readonly goal: Goal;
}

export interface Goal {
  /** What is judged: ours divided by the yardstick's, or ours alone. */
  readonly of: 'ratio' | 'ours';
  readonly limit: number;
  readonly side: Side;
}

/** Opened before its rounds and closed after them, also when one of them throws. */
export interface Group<R extends Row = Row> {
  readonly rows: readonly R[];
  /** Where a round takes long. */
  readonly mostRounds?: number;
  /** Says what it does before the first round, which may take long. */
  open(rows: readonly R[]): Promise<void> | void;
  /** A sample of each of these rows, in their order. */
  round(rows: readonly R[], number: number): Promise<Sample[]> | Sample[];
  /** Removes everything; must work when open() failed halfway. */
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

export function resultOf(row: Row, samples: readonly Sample[]): Result {
  const ratio = interval(samples.map(({ ours, theirs }) => ours / theirs));
  const judged = row.goal.of === 'ratio' ? ratio : interval(samples.map(({ ours }) => ours));
  const peers = samples.flatMap(({ peer, theirs }) => (peer === undefined ? [] : [{ value: peer, ratio: peer / theirs }]));
  const peer = { value: median(peers.map(({ value }) => value)), ratio: median(peers.map((each) => each.ratio)) };
  return {
    ...{ row: row.name, yardstick: row.yardstick, unit: row.unit, goal: row.goal },
    ...{ ours: median(samples.map(({ ours }) => ours)), theirs: median(samples.map(({ theirs }) => theirs)), ratio },
    ...(peers.length === 0 ? {} : { peer }),
    verdict: verdict(judged, row.goal),
  };
}
