// SPDX-License-Identifier: Apache-2.0
// The interface of a source to the rest of the daemon. A source is started once. It deletes a row only when it knows that the
// object is gone.
import type { SourceProblem } from './problems.ts';

export interface Source {
  /** "files /etc/sluice": how status and metrics name it. */
  readonly name: string;
  /** Registers with the tables, and goes on by itself until stop(). */
  start(): Promise<void>;
  /** No row is written after it returned; the rows stay. */
  stop(): Promise<void>;
  /** Reads everything again. */
  rescan(): Promise<void>;
  /** What is wrong now, sorted. */
  problems(): readonly SourceProblem[];
  /** Everything was read, understood and believed: only then may what is not in the tables be pruned. */
  readonly isComplete: boolean;
}
